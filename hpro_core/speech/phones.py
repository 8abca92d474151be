"""The phones of the speech tokens: what else the tokenizer learns, and only while it learns.

Letters: B batch, L speech token, D digit, J phone, S symbol of `text.SYMBOLS`.

With 317 bits a second for words, voice and affect, a tokenizer that only rebuilds spectra spends
them where the energy is, and a third of acted words are lost (docs/log.md). S3 tokenizers learn by
recognising speech (CosyVoice, arXiv 2407.05407); here both are asked for (ours).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.engine.batching import length_mask
from hpro_core.speech.tokenizer import DIGITS, Stack
from hpro_core.text import N_SYMBOLS, PADDING


class PhoneReader(nn.Module):
    """Two convolutional blocks over codes, and a class per phone and one for none."""

    def __init__(self, width: int = 192):
        super().__init__()
        self.from_digits = nn.Linear(DIGITS, width)
        self.stack = Stack(width, kernel=5, blocks=2)
        self.to_symbols = nn.Linear(width, N_SYMBOLS)

    def forward(self, codes_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """Log-probabilities of phones, float32 (B, L, S); PADDING is CTC's blank."""
        mask_BL1 = length_mask(lengths_B, codes_BLD.shape[1])[..., None].float()
        hidden = self.stack(self.from_digits(2 * codes_BLD - 1), mask_BL1)
        return self.to_symbols(hidden).float().log_softmax(-1)


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
