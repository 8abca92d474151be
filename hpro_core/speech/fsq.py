"""Finite scalar quantisation of codes in [0, 1] (paper II-A; sigmoid form of the released codec).

The codec quantises content and style latents with it, the embedded tokenizer speech latents.

Letters: D latent dimension, K levels per dimension. A code is one of {0, 1, .., K-1}/(K-1).
All computations are in float32 even under autocast: in bfloat16 the 6^4 content codes collapse.
"""

import torch
from torch import Tensor


def quantise(latent: Tensor, levels: int) -> Tensor:
    """Round each dimension to its nearest level, with a straight-through gradient.

    Args:
        latent: float (..., D); values outside [0, 1] are clamped first.
        levels: K.

    Returns:
        float32 (..., D) on the grid. The gradient is the identity inside [0, 1] and zero outside.
    """
    clamped = latent.float().clamp(0.0, 1.0)
    grid = torch.round(clamped * (levels - 1)) / (levels - 1)
    return clamped + (grid - clamped).detach()


def to_indices(codes: Tensor, levels: int) -> Tensor:
    """Convert codes on the grid, (..., D), to int64 indices (...); digit 0 is least significant."""
    digits = torch.round(codes.float() * (levels - 1)).long()
    return (digits * _place_values(codes.shape[-1], levels, codes.device)).sum(-1)


def from_indices(indices: Tensor, levels: int, dimensions: int) -> Tensor:
    """Convert indices, int64 (...), to codes on the grid, float32 (..., D)."""
    digits = indices[..., None] // _place_values(dimensions, levels, indices.device) % levels
    return digits.float() / (levels - 1)


def _place_values(dimensions: int, levels: int, device: torch.device) -> Tensor:
    return levels ** torch.arange(dimensions, device=device)
