"""Noise of stage B, which makes reconstruction and heads robust to small changes (released code).

Letters: B batch, L frame, H width, D code dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EMOTION_NOISE_STD = 0.1  # released: standard deviation on the features of the two heads
CONTENT_NOISE_FRACTION = 0.6  # released: largest fraction of the frames with strong noise
STYLE_NOISE_FRACTION = 0.4  # released: the same for style


@dataclass(frozen=True)
class Noise:
    """Functions that add noise; each maps a tensor to one of the same shape.

    Attributes:
        content: on content codes (B, L, D) in [0, 1] before rounding.
        style: on style codes (B, L, D) in [0, 1] before rounding.
        emotion: on the features (B, L, H) of the emotion and word VAD heads.
    """

    content: Callable[[Tensor], Tensor]
    style: Callable[[Tensor], Tensor]
    emotion: Callable[[Tensor], Tensor]


def training_noise(content_levels: int, style_levels: int) -> Noise:
    """Noise of the training, drawn anew from torch's default generator at each call.

    Args:
        content_levels: levels per content dimension.
        style_levels: levels per style dimension.
    """
    return Noise(
        content=lambda code: _random_codes(code, content_levels, CONTENT_NOISE_FRACTION),
        style=lambda code: _random_codes(code, style_levels, STYLE_NOISE_FRACTION),
        emotion=lambda features: features + EMOTION_NOISE_STD * torch.randn_like(features),
    )


def _unchanged(values: Tensor) -> Tensor:
    return values


NO_NOISE = Noise(_unchanged, _unchanged, _unchanged)
"""No noise, for evaluation."""


def _random_codes(code_BLD: Tensor, levels: int, max_fraction: float) -> Tensor:
    share = torch.rand((), device=code_BLD.device) * max_fraction
    strong_BL = torch.rand(code_BLD.shape[:2], device=code_BLD.device) < share
    return perturb(code_BLD, levels, strong_BL, torch.randn_like(code_BLD))


def perturb(code_BLD: Tensor, levels: int, strong_BL: Tensor, normal_BLD: Tensor) -> Tensor:
    """Add Gaussian noise: deviation 1/6 of a level's width on strong frames, 1/8 on the others.

    Args:
        code_BLD: codes in [0, 1] before rounding.
        levels: levels per dimension; a level's width is 1 / (levels - 1).
        strong_BL: bool, true at the frames with strong noise.
        normal_BLD: standard normal noise.

    Returns:
        (B, L, D); values may leave [0, 1].
    """
    step = 1 / (levels - 1)
    deviation = torch.where(strong_BL[..., None], step / 6, step / 8)
    return code_BLD + deviation * normal_BLD
