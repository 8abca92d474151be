"""The leash: token-wise KL divergence from the policy to its frozen start (paper II-B).

Letters: B batch, L position, V output class.
"""

from typing import Literal

from torch import Tensor

from hpro_core.engine.precision import at_least_float32


def kl_divergence(
    policy_BLV: Tensor,
    reference_BLV: Tensor,
    mask_BL: Tensor,
    reduction: Literal["sum", "mean"],
) -> Tensor:
    """KL(policy || reference) over all output classes and an utterance's positions.

    The paper gives neither direction nor reduction. Both are CosyVoice 3's (2505.17589), which adds
    up tokens: "sum". The mean over tokens is a sixtieth of it here, and then no leash at all: a
    policy drifts where the reward does not care (docs/log/index.md). The end of speech is among the
    classes and its position among the positions: no reward sees it.

    Args:
        policy_BLV: logits of the policy.
        reference_BLV: logits of the frozen SFT policy after the same history.
        mask_BL: true at real positions, that of the end included.
        reduction: "sum" over positions, mean over utterances; or "mean" over all positions.
    """
    policy = at_least_float32(policy_BLV[mask_BL]).log_softmax(-1)
    reference = at_least_float32(reference_BLV[mask_BL]).log_softmax(-1)
    divergence = (policy.exp() * (policy - reference)).sum(-1)
    return divergence.mean() if reduction == "mean" else divergence.sum() / len(mask_BL)
