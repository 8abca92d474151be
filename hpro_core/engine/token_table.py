"""A vector for each speech token. Letters: V token, C candidate, D width.

The 6561 tokens are the 3^8 codes of a finite scalar quantiser, so neighbours in code space sound
alike. A factored table says so: the vector of a token is the sum of one vector per ternary digit
and a free remainder that starts at zero. Small corpora then teach every token something about its
neighbours (ours; measured in the spike that preceded this project). The plain table is the one of
CosyVoice2 and of the released codec.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpro_core.constants import N_SPEECH_TOKENS

DIGITS = 8


@dataclass(frozen=True)
class TokenMix:
    """A distribution over a few tokens at each position; all others have none of it."""

    tokens: Tensor  # int64 (..., C)
    shares: Tensor  # float (..., C)


class TokenTable(nn.Module):
    """Rows for the speech tokens and, after them, `extra` special tokens."""

    def __init__(self, width: int, extra: int = 0, factored: bool = False, std: float = 0.02):
        super().__init__()
        self.factored = factored
        self._kept: Tensor | None = None  # see `rows_kept`
        self.digit_onehot: Tensor
        rows = N_SPEECH_TOKENS + extra
        self.weight = nn.Parameter(torch.randn(rows, width) * std)
        if factored:
            nn.init.zeros_(self.weight[:N_SPEECH_TOKENS])
            self.digits = nn.Parameter(torch.randn(DIGITS * 3, width) * std)
            self.register_buffer("digit_onehot", _digit_onehot(), persistent=False)

    def rows(self) -> Tensor:
        """All vectors, (V + extra, D)."""
        if not self.factored:
            return self.weight
        if self._kept is not None:
            return self._kept
        shared = self.digit_onehot @ self.digits
        return self.weight + nn.functional.pad(shared, (0, 0, 0, len(self.weight) - len(shared)))

    def forward(self, tokens: Tensor | TokenMix) -> Tensor:
        """Vectors of token ids, int64 (...), or of distributions over tokens, float (..., V).

        A distribution gets the mean of the vectors, so gradients reach it: this is how a policy's
        sample enters the codec. Over few tokens it is looked up (`TokenMix`), for a fraction of the
        product's time.
        """
        if isinstance(tokens, TokenMix):
            *places, few = tokens.tokens.shape
            rows, shares = self.rows(), tokens.shares.reshape(-1, few)
            looked_up = nn.functional.embedding_bag(
                tokens.tokens.reshape(-1, few),
                rows,
                per_sample_weights=shares.to(rows.dtype),
                mode="sum",
            )
            return looked_up.unflatten(0, places)
        if tokens.is_floating_point():
            rows = self.rows()[: tokens.shape[-1]]
            return tokens @ rows.to(tokens.dtype)
        return nn.functional.embedding(tokens, self.rows())


@contextmanager
def rows_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within it the tables among modules add up their rows once, not for every spoken token.

    No gradient passes, and the weights must stay as they are.
    """
    tables = [module for module in modules if isinstance(module, TokenTable)]
    for table in tables:
        table._kept = table.rows().detach()
    try:
        yield
    finally:
        for table in tables:
            table._kept = None


def _digit_onehot() -> Tensor:
    digits_VD = torch.arange(N_SPEECH_TOKENS)[:, None] // 3 ** torch.arange(DIGITS) % 3
    return nn.functional.one_hot(digits_VD, 3).flatten(1).float()
