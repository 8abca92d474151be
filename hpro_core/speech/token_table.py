"""Embedding tables for speech tokens. Letters: V token, C candidate, D width.

The 6561 tokens are the 3^8 codes of a finite scalar quantiser, so tokens that are close in code
space are similar sounds. In a factored table the vector of a token is the sum of one vector per
ternary digit and a free residual that starts at zero, so tokens share statistical strength with
their neighbours on small corpora (ours; measured in an earlier experiment). The
plain table is that of CosyVoice2 and of the released codec.
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
    """A sparse distribution over tokens at each position; all other tokens have probability 0."""

    tokens: Tensor  # int64 (..., C)
    shares: Tensor  # float (..., C)


class TokenTable(nn.Module):
    """Embedding table: one row per speech token, then `extra` rows for special tokens."""

    def __init__(self, width: int, extra: int = 0, factored: bool = False, std: float = 0.02):
        super().__init__()
        self.factored = factored
        self._cached: Tensor | None = None  # see `cached_rows`
        self.digit_onehot: Tensor
        rows = N_SPEECH_TOKENS + extra
        self.weight = nn.Parameter(torch.randn(rows, width) * std)
        if factored:
            nn.init.zeros_(self.weight[:N_SPEECH_TOKENS])
            self.digits = nn.Parameter(torch.randn(DIGITS * 3, width) * std)
            self.register_buffer("digit_onehot", _digit_onehot(), persistent=False)

    def rows(self) -> Tensor:
        """Compute all vectors, (V + extra, D)."""
        if not self.factored:
            return self.weight
        if self._cached is not None:
            return self._cached
        shared = self.digit_onehot @ self.digits
        return self.weight + nn.functional.pad(shared, (0, 0, 0, len(self.weight) - len(shared)))

    def forward(self, tokens: Tensor | TokenMix) -> Tensor:
        """Embed token ids or distributions over tokens.

        A distribution gives the mean of the vectors under it, so gradients reach it; the policy's
        samples enter the codec this way. A sparse one (`TokenMix`) is looked up, which is much
        faster than the dense product.

        Args:
            tokens: ids, int64 (...); distributions, float (..., V); or sparse distributions.

        Returns:
            float (..., D). Gradients reach the table, and the distributions if given.
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
def cached_rows(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Cache the rows of all token tables among modules inside the context.

    A factored table then sums its rows once and not for every generated token. No gradient reaches
    the tables, and their weights must not change inside the context.
    """
    tables = [module for module in modules if isinstance(module, TokenTable)]
    for table in tables:
        table._cached = table.rows().detach()
    try:
        yield
    finally:
        for table in tables:
            table._cached = None


def _digit_onehot() -> Tensor:
    digits_VD = torch.arange(N_SPEECH_TOKENS)[:, None] // 3 ** torch.arange(DIGITS) % 3
    return nn.functional.one_hot(digits_VD, 3).flatten(1).float()
