"""Rows of a factored token table. Letters: V token, D width."""

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS

DIGITS = 8


def token_rows(weights: dict[str, Tensor], name: str) -> Tensor:
    """The vector of every token and of the specials after them, (V, D).

    A speech token's is its free row and one row for each of its ternary digits.
    """
    digits = weights[f"{name}.digits"]
    rows = weights[f"{name}.weight"]
    token = torch.arange(N_SPEECH_TOKENS)
    for place in range(DIGITS):
        digit = token // 3**place % 3
        shared = digits[3 * place + digit]
        rows = rows + torch.nn.functional.pad(shared, (0, 0, 0, len(rows) - len(shared)))
    return rows
