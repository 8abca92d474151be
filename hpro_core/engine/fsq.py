"""Finite scalar quantisation of codes in [0, 1] (paper II-A; the released codec's sigmoid form).

The codec quantises content and style with it, the embedded tokenizer speech.

Letters: D dimensions of the latent. K levels per dimension; a code is one of {0, 1, .., K-1}/(K-1).
Everything here is float32 whatever the autocast: in bfloat16 the 6^4 content codes collapse.
"""

import torch
from torch import Tensor


def quantise(latent: Tensor, levels: int) -> Tensor:
    """Round each dimension to its nearest level, straight through.

    Args:
        latent: (..., D); values outside [0, 1] are clamped first.
        levels: K.

    Returns:
        float32 (..., D) on the grid; the gradient is that of the identity inside [0, 1].
    """
    clamped = latent.float().clamp(0.0, 1.0)
    grid = torch.round(clamped * (levels - 1)) / (levels - 1)
    return clamped + (grid - clamped).detach()


def to_indices(codes: Tensor, levels: int) -> Tensor:
    """Codes on the grid, (..., D), as indices, int64 (...); the first dimension counts least."""
    digits = torch.round(codes.float() * (levels - 1)).long()
    return (digits * _place_values(codes.shape[-1], levels, codes.device)).sum(-1)


def from_indices(indices: Tensor, levels: int, dimensions: int) -> Tensor:
    """Indices, int64 (...), as codes on the grid, float32 (..., D)."""
    digits = indices[..., None] // _place_values(dimensions, levels, indices.device) % levels
    return digits.float() / (levels - 1)


def _place_values(dimensions: int, levels: int, device: torch.device) -> Tensor:
    return levels ** torch.arange(dimensions, device=device)
