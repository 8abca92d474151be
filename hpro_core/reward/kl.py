"""The leash: token-wise KL divergence from the policy to its frozen start (paper II-B).

Letters: B batch, L position, V output class.
"""

from torch import Tensor

from hpro_core.engine.precision import at_least_float32


def kl_divergence(policy_BLV: Tensor, reference_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    """KL(policy || reference) over all output classes, mean over real positions.

    The paper gives neither direction nor reduction; this is CosyVoice 3's direction (2505.17589),
    with a mean over tokens, so that lambda compares with the other mean-reduced terms. The end of
    speech is among the classes and its position among the positions: no reward sees it.

    Args:
        policy_BLV: logits of the policy.
        reference_BLV: logits of the frozen SFT policy after the same true history.
        mask_BL: true at real positions, that of the end included.
    """
    policy = at_least_float32(policy_BLV[mask_BL]).log_softmax(-1)
    reference = at_least_float32(reference_BLV[mask_BL]).log_softmax(-1)
    return (policy.exp() * (policy - reference)).sum(-1).mean()
