"""Noise of stage B, so that rebuilding and the heads do not rely on the last digit (released code).

Letters: B batch, L frame, D code dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EMOTION_DEVIATION = 0.1  # released: on the features of the emotion and word heads
CONTENT_SHARE = 0.6  # released: at most this share of the frames gets strong noise
STYLE_SHARE = 0.4


@dataclass(frozen=True)
class Noise:
    """What is added where; each function takes values and returns them disturbed."""

    content: Callable[[Tensor], Tensor]  # codes (B, L, D) in [0, 1] before rounding
    style: Callable[[Tensor], Tensor]
    emotion: Callable[[Tensor], Tensor]  # features (B, L, H) before the heads


def training_noise(content_levels: int, style_levels: int) -> Noise:
    """Noise that is drawn afresh, from torch's own generator, each time it is added."""
    return Noise(
        content=lambda code: _drawn(code, content_levels, CONTENT_SHARE),
        style=lambda code: _drawn(code, style_levels, STYLE_SHARE),
        emotion=lambda features: features + EMOTION_DEVIATION * torch.randn_like(features),
    )


def _unchanged(values: Tensor) -> Tensor:
    return values


QUIET = Noise(_unchanged, _unchanged, _unchanged)
"""None, for evaluation."""


def _drawn(code_BLD: Tensor, levels: int, most: float) -> Tensor:
    share = torch.rand((), device=code_BLD.device) * most
    strong_BL = torch.rand(code_BLD.shape[:2], device=code_BLD.device) < share
    return disturb(code_BLD, levels, strong_BL, torch.randn_like(code_BLD))


def disturb(code_BLD: Tensor, levels: int, strong_BL: Tensor, normal_BLD: Tensor) -> Tensor:
    """Add noise of a sixth of a level's width to the strong frames, of an eighth to the others.

    Args:
        code_BLD: codes in [0, 1] before rounding; the result may leave the range.
        levels: of a dimension.
        strong_BL: true at the frames with strong noise.
        normal_BLD: standard normal.
    """
    step = 1 / (levels - 1)
    deviation = torch.where(strong_BL[..., None], step / 6, step / 8)
    return code_BLD + deviation * normal_BLD
