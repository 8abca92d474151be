"""In which precision numbers that must not be rounded are computed."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Half types as float32 whatever the autocast; float32 and float64 as they are.

    Losses, quantiser and Gumbel noise use it: in bfloat16 codes collapse and sums lose small terms,
    and float64 is what gradient checks need.
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
