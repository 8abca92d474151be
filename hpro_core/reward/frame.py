"""Frame-level rewards: P_cp(T_C | S) and P_sp(T_S | S) (paper II-B, stage I).

Letters: B batch, L frame, D code dimension.
"""

from torch import Tensor

from hpro_core.codec.losses import masked_mean
from hpro_core.train.precision import at_least_float32


def code_loss(generated_BLD: Tensor, preference_BLD: Tensor, mask_BL: Tensor, norm: str) -> Tensor:
    """L_cp or L_sp: distance of the sample's code from the preference token (paper II-B).

    The paper writes an L1 norm, a sum. The mean over frames and dimensions is the released code's.

    Args:
        generated_BLD: code of the policy's sample before rounding, in [0, 1].
        preference_BLD: discrete code of the recording, on the grid.
        mask_BL: bool, true at real frames.
        norm: "l1" (paper) or "mse" (released code).

    Returns:
        Scalar, at least float32: mean over real frames and dimensions. Gradients reach
        `generated_BLD`.
    """
    difference = at_least_float32(generated_BLD) - preference_BLD
    distance = difference.abs() if norm == "l1" else difference.square()
    return masked_mean(distance, mask_BL)
