"""Phones and affect, in speech tokens and in spectra: what else the tokenizer learns to keep.

Letters: B batch, L speech token, F = 4 L frame, M mel band, D digit, C channel, J phone, S symbol
of `text.SYMBOLS`, A affect as in `crops`.

With 317 bits a second for words, voice and affect, a tokenizer that only rebuilds spectra spends
them where the energy is, and a third of acted words are lost (docs/log/index.md). S3 tokenizers
learn by recognising speech (CosyVoice, arXiv 2407.05407), that of CosyVoice 3 by recognising
emotions too (arXiv 2505.17589). Here tokens must tell their phones and their words' affect, and
rebuilt spectra must look like the recording to one who knows both (ours; the second is the feature
loss of Johnson et al. 2016, arXiv 1603.08155).
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hpro_core.constants import EMOTIONS
from hpro_core.engine.batching import length_mask
from hpro_core.speech.crops import N_AFFECT
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS
from hpro_core.speech.tokenizer import DIGITS, Stack, patches
from hpro_core.text.phones import N_SYMBOLS, PADDING

_WIDTH = 192
_KERNEL = 5
_VAD_WEIGHT = 20.0  # squared errors of V, A, D are small, their labels spread by 0.1 to 0.2


class _Heads(nn.Module):
    """What is told of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.to_symbols = nn.Linear(_WIDTH, N_SYMBOLS)
        self.to_affect = nn.Linear(_WIDTH, N_AFFECT)

    def forward(self, hidden_BLC: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of phones, float32 (B, L, S), PADDING being CTC's blank; and affect,
        float32 (B, L, A): logits of the emotions, then V, A, D.
        """
        logarithms_BLS = self.to_symbols(hidden_BLC).float().log_softmax(-1)
        return logarithms_BLS, self.to_affect(hidden_BLC).float()


class TokenHeads(nn.Module):
    """Two convolutional blocks over codes; a class per phone and one for none, and affect."""

    def __init__(self) -> None:
        super().__init__()
        self.from_digits = nn.Linear(DIGITS, _WIDTH)
        self.stack = Stack(_WIDTH, _KERNEL, blocks=2)
        self.heads = _Heads()

    def forward(self, codes_BLD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Phones and affect of each token, see `_Heads`."""
        mask_BL1 = length_mask(lengths_B, codes_BLD.shape[1])[..., None].float()
        return self.heads(self.stack(self.from_digits(2 * codes_BLD - 1), mask_BL1))


class MelFeatureExtractor(nn.Module):
    """Three convolutional blocks over log-mel frames, and the heads of `TokenHeads`."""

    def __init__(self) -> None:
        super().__init__()
        self.from_patch = nn.Linear(N_MELS * FRAMES_PER_TOKEN, _WIDTH)
        self.layers = nn.ModuleList(Stack(_WIDTH, _KERNEL, blocks=1) for _ in range(3))
        self.heads = _Heads()

    def forward(
        self, mel_BFM: Tensor, lengths_B: Tensor
    ) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        """Phones and affect of each token, see `_Heads`, and what each layer holds, (B, L, C)."""
        hidden, mask_BL1 = patches(mel_BFM, lengths_B)
        hidden = self.from_patch(hidden)
        layers = []
        for layer in self.layers:
            hidden = layer(hidden, mask_BL1)
            layers.append(hidden)
        return self.heads(hidden), layers

    def distance(self, layers: list[Tensor], rebuilt_BFM: Tensor, lengths_B: Tensor) -> Tensor:
        """How far rebuilt spectra are from what the layers held of the recordings.

        L1, mean over the tokens that exist, channels and layers. Its gradient goes to the rebuilt
        spectra only: neither the recordings' side nor the listener moves to meet them.
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
    """CTC (Graves et al. 2006) in nats per phone, mean over the crops whose phones are known.

    Crops with more phones than tokens can spell (a blank must part two equal ones) do not count.
    Without any crop that counts the loss is zero, and without gradient.
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
    """Soft cross-entropy of the emotions and squared error of V, A, D, mean over labelled tokens.

    Every token of a word is asked, so that a few of them are enough to hear it. Without any
    label the loss is zero, and without gradient.

    Args:
        affect_BLA: as from `TokenHeads`.
        truth_BLA: posterior of the emotions, then V, A, D; NaN where there is none.
    """
    known_BL = truth_BLA.isfinite().all(-1)
    if not known_BL.any():
        return torch.zeros((), device=affect_BLA.device)
    told, truth, n = affect_BLA[known_BL], truth_BLA[known_BL], len(EMOTIONS)
    emotion = functional.cross_entropy(told[:, :n], truth[:, :n])
    return emotion + _VAD_WEIGHT * (told[:, n:] - truth[:, n:]).square().mean()
