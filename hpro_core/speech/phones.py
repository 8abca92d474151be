"""The phones of speech tokens and of spectra: what else the tokenizer learns while it learns.

Letters: B batch, L speech token, F = 4 L frame, M mel band, D digit, C channel, J phone, S symbol
of `text.SYMBOLS`.

With 317 bits a second for words, voice and affect, a tokenizer that only rebuilds spectra spends
them where the energy is, and a third of acted words are lost (docs/log.md). S3 tokenizers learn by
recognising speech (CosyVoice, arXiv 2407.05407); here tokens must spell their phones, and rebuilt
spectra must look like the recording to one who reads phones (both ours; the second is the feature
loss of Johnson et al. 2016, arXiv 1603.08155).
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hpro_core.engine.batching import length_mask
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS
from hpro_core.speech.tokenizer import DIGITS, Stack, patches
from hpro_core.text import N_SYMBOLS, PADDING

_WIDTH = 192
_KERNEL = 5


class PhoneReader(nn.Module):
    """Two convolutional blocks over codes, and a class per phone and one for none."""

    def __init__(self) -> None:
        super().__init__()
        self.from_digits = nn.Linear(DIGITS, _WIDTH)
        self.stack = Stack(_WIDTH, _KERNEL, blocks=2)
        self.to_symbols = nn.Linear(_WIDTH, N_SYMBOLS)

    def forward(self, codes_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """Log-probabilities of phones, float32 (B, L, S); PADDING is CTC's blank."""
        mask_BL1 = length_mask(lengths_B, codes_BLD.shape[1])[..., None].float()
        hidden = self.stack(self.from_digits(2 * codes_BLD - 1), mask_BL1)
        return self.to_symbols(hidden).float().log_softmax(-1)


class PhoneListener(nn.Module):
    """Three convolutional blocks over log-mel frames, and a class per phone and one for none."""

    def __init__(self) -> None:
        super().__init__()
        self.from_patch = nn.Linear(N_MELS * FRAMES_PER_TOKEN, _WIDTH)
        self.layers = nn.ModuleList(Stack(_WIDTH, _KERNEL, blocks=1) for _ in range(3))
        self.to_symbols = nn.Linear(_WIDTH, N_SYMBOLS)

    def forward(self, mel_BFM: Tensor, lengths_B: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Log-probabilities of phones, float32 (B, L, S), and what each layer holds, (B, L, C)."""
        hidden, mask_BL1 = patches(mel_BFM, lengths_B)
        hidden = self.from_patch(hidden)
        layers = []
        for layer in self.layers:
            hidden = layer(hidden, mask_BL1)
            layers.append(hidden)
        return self.to_symbols(hidden).float().log_softmax(-1), layers

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
    loss_B = functional.ctc_loss(
        logarithms_BLS.transpose(0, 1),
        phones_BJ,
        lengths_B,
        phone_lengths_B,
        blank=PADDING,
        reduction="none",
    )
    counted_B = (phone_lengths_B > 0) & loss_B.isfinite()
    if not counted_B.any():
        return torch.zeros((), device=loss_B.device)
    return (loss_B[counted_B] / phone_lengths_B[counted_B]).mean()
