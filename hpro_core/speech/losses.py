"""Auxiliary losses of the tokenizer: phone and affect prediction, and feature matching.

Letters: B batch, L speech token, F = 4 L frame, M mel band, D digit, C channel, J phone, S symbol
of `text.SYMBOLS`, A affect as in `crops`.

The tokens carry 317 bits per second. A tokenizer trained on spectrum reconstruction alone spends
them on the high-energy parts of the spectrum, and a third of acted words are lost
(docs/log/index.md). S3
tokenizers are trained on speech recognition (CosyVoice, arXiv 2407.05407), that of CosyVoice 3 on
emotion recognition too (arXiv 2505.17589). Here heads predict phones and word affect from the
tokens, and a feature-matching loss (Johnson et al. 2016, arXiv 1603.08155) compares reconstructed
with recorded spectra in the features of a network that is trained on the same two tasks (ours).
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hpro_core.constants import EMOTIONS
from hpro_core.speech.crops import N_AFFECT
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS
from hpro_core.speech.tokenizer import DIGITS, Stack, patches
from hpro_core.text.phones import N_SYMBOLS, PADDING
from hpro_core.train.batching import length_mask

_WIDTH = 192
_KERNEL = 5
_VAD_WEIGHT = 20.0  # squared errors of V, A, D are small: their labels have a spread of 0.1 to 0.2


class _Heads(nn.Module):
    """Output heads for the phones and the affect of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.to_symbols = nn.Linear(_WIDTH, N_SYMBOLS)
        self.to_affect = nn.Linear(_WIDTH, N_AFFECT)

    def forward(self, hidden_BLC: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs of both heads.

        Returns:
            Log-probabilities of phones, float32 (B, L, S), with PADDING as CTC blank; and affect,
            float32 (B, L, A): logits of the emotions, then V, A, D.
        """
        logarithms_BLS = self.to_symbols(hidden_BLC).float().log_softmax(-1)
        return logarithms_BLS, self.to_affect(hidden_BLC).float()


class TokenHeads(nn.Module):
    """Predicts phones and affect from codes: two ConvNeXt blocks and the output heads."""

    def __init__(self) -> None:
        super().__init__()
        self.from_digits = nn.Linear(DIGITS, _WIDTH)
        self.stack = Stack(_WIDTH, _KERNEL, blocks=2)
        self.heads = _Heads()

    def forward(self, codes_BLD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Predict phones and affect of each token.

        Args:
            codes_BLD: codes, float (B, L, 8); gradients reach them.
            lengths_B: tokens in each row, int64.

        Returns:
            Log-probabilities of phones, float32 (B, L, S), and affect, float32 (B, L, A), see
            `_Heads`.
        """
        mask_BL1 = length_mask(lengths_B, codes_BLD.shape[1])[..., None].float()
        return self.heads(self.stack(self.from_digits(2 * codes_BLD - 1), mask_BL1))


class MelFeatureExtractor(nn.Module):
    """Predicts phones and affect from log-mel frames: three ConvNeXt blocks and output heads."""

    def __init__(self) -> None:
        super().__init__()
        self.from_patch = nn.Linear(N_MELS * FRAMES_PER_TOKEN, _WIDTH)
        self.layers = nn.ModuleList(Stack(_WIDTH, _KERNEL, blocks=1) for _ in range(3))
        self.heads = _Heads()

    def forward(
        self, mel_BFM: Tensor, lengths_B: Tensor
    ) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        """Predict phones and affect of each token.

        Args:
            mel_BFM: log-mel frames, float (B, 4 L, 80).
            lengths_B: tokens in each row, int64.

        Returns:
            The outputs of `_Heads`, and the output of each layer, (B, L, C).
        """
        hidden, mask_BL1 = patches(mel_BFM, lengths_B)
        hidden = self.from_patch(hidden)
        layers = []
        for layer in self.layers:
            hidden = layer(hidden, mask_BL1)
            layers.append(hidden)
        return self.heads(hidden), layers

    def distance(self, layers: list[Tensor], rebuilt_BFM: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the feature-matching loss of reconstructed spectra (Johnson et al. 2016).

        Args:
            layers: layer outputs for the recordings, from `forward`.
            rebuilt_BFM: reconstructed log-mel frames, float (B, 4 L, 80).
            lengths_B: tokens in each row, int64.

        Returns:
            L1 distance, mean over valid tokens, channels and layers. Gradients reach `rebuilt_BFM`
            only, neither `layers` nor the weights of this network.
        """
        fixed = {name: weight.detach() for name, weight in self.named_parameters()}
        _, rebuilt = functional_call(self, fixed, (rebuilt_BFM, lengths_B))
        mask_BL = length_mask(lengths_B, rebuilt[0].shape[1]).float()
        pairs = zip(layers, rebuilt, strict=True)
        error_BL = torch.stack([(a.detach() - b).abs().mean(-1) for a, b in pairs]).mean(0)
        return (error_BL * mask_BL).sum() / mask_BL.sum()


def phone_loss(
    logarithms_BLS: Tensor, lengths_B: Tensor, phones_BJ: Tensor, phone_lengths_B: Tensor
) -> Tensor:
    """Compute the CTC loss (Graves et al. 2006) in nats per phone.

    Args:
        logarithms_BLS: log-probabilities from `TokenHeads`, float32.
        lengths_B: tokens in each row, int64.
        phones_BJ: phones of each crop, int64, padded with PADDING.
        phone_lengths_B: phones in each row, int64; 0: unknown.

    Returns:
        Scalar, mean over the crops with known phones that fit into their tokens (CTC needs a blank
        between two equal phones). Zero without gradient if there is no such crop.
    """
    within_BJ = length_mask(phone_lengths_B, phones_BJ.shape[1])[:, 1:]
    equal_B = ((phones_BJ[:, 1:] == phones_BJ[:, :-1]) & within_BJ).sum(1)
    counted_B = (phone_lengths_B > 0) & (phone_lengths_B + equal_B <= lengths_B)
    if not counted_B.any():
        return torch.zeros((), device=logarithms_BLS.device)
    loss_B = functional.ctc_loss(
        logarithms_BLS[counted_B].transpose(0, 1),
        phones_BJ[counted_B],
        lengths_B[counted_B],
        phone_lengths_B[counted_B],
        blank=PADDING,
        reduction="none",
    )
    return (loss_B / phone_lengths_B[counted_B]).mean()


def affect_loss(affect_BLA: Tensor, truth_BLA: Tensor) -> Tensor:
    """Compute the soft cross-entropy of the emotions plus the weighted squared error of V, A, D.

    Every token of a word has the label of the word, so that each few tokens carry its affect.

    Args:
        affect_BLA: outputs of `TokenHeads`, float32.
        truth_BLA: posterior of the emotions, then V, A, D; NaN without a label.

    Returns:
        Scalar, mean over labelled tokens. Zero without gradient if no token is labelled.
    """
    known_BL = truth_BLA.isfinite().all(-1)
    if not known_BL.any():
        return torch.zeros((), device=affect_BLA.device)
    predicted, truth, n = affect_BLA[known_BL], truth_BLA[known_BL], len(EMOTIONS)
    emotion = functional.cross_entropy(predicted[:, :n], truth[:, :n])
    return emotion + _VAD_WEIGHT * (predicted[:, n:] - truth[:, n:]).square().mean()
