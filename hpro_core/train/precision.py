"""Precision of computations that must not run in half precision."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Cast bfloat16 and float16 to float32; return float32 and float64 unchanged.

    Losses, quantiser and Gumbel noise use it. In bfloat16 codes collapse and sums lose small terms;
    gradient checks need float64.
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
