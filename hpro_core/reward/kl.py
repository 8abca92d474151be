"""Token-wise categorical KL divergence from the policy to the frozen reference policy (paper II-B).

That the reference is the SFT policy is inferred. Letters: B batch, L position, V output class.
"""

from typing import Literal

from torch import Tensor

from hpro_core.train.precision import at_least_float32


def kl_divergence(
    policy_BLV: Tensor,
    reference_BLV: Tensor,
    mask_BL: Tensor,
    reduction: Literal["sum", "mean"],
) -> Tensor:
    """KL(policy || reference) over all output classes and an utterance's positions.

    The paper gives neither direction nor reduction. Both are those of CosyVoice 3 (arXiv
    2505.17589), which sums over tokens. The mean over tokens is about a sixtieth of the sum here,
    too little: the policy drifts where the reward does not constrain it (docs/log/index.md). End
    of speech is one of the classes and its position is included, because no reward depends on it.

    Args:
        policy_BLV: logits of the policy.
        reference_BLV: logits of the frozen reference policy after the same history.
        mask_BL: bool, true at real positions, the one of end of speech included.
        reduction: "sum" over positions, then mean over utterances; or "mean" over all positions.

    Returns:
        Scalar in nats, at least float32. Gradients reach `policy_BLV`, and `reference_BLV` if it
        has a graph.
    """
    policy = at_least_float32(policy_BLV[mask_BL]).log_softmax(-1)
    reference = at_least_float32(reference_BLV[mask_BL]).log_softmax(-1)
    divergence = (policy.exp() * (policy - reference)).sum(-1)
    return divergence.mean() if reduction == "mean" else divergence.sum() / len(mask_BL)
