"""Reward terms and the KL term (paper II-B), in the order of the stages.

Frame level (stage I): L_cp and L_sp, distances of codes. Word level (stage II): L_wVAD and L_ASR.
Sentence level (stage III): L_SER. The losses of the word and sentence level are those that trained
the codec's heads; the frozen codec computes their inputs from the policy's sample.

A term is a loss: lower is better. The reward of a sample is minus the weighted sum of its terms
without KL.

Letters: B samples (batch times `reward.samples`; for `kl_divergence` the batch), L frame or
position, W word, D code dimension, J text position, V output class. L and V are T and C in
`codec.losses`.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hpro_core.codec.losses import (
    covered_words,
    soft_cross_entropy,
    text_cross_entropy,
    word_vad_loss,
)
from hpro_core.codec.model import CodecOutput
from hpro_core.speech.token_table import TokenMix
from hpro_core.train.batching import Batch
from hpro_core.train.precision import at_least_float32
from hpro_core.train.terms import Mean, mean_of


@dataclass(frozen=True)
class RewardSample:
    """Samples of the policy and what the frozen codec computes from them: input of a reward term.

    Attributes:
        tokens: sampled speech tokens as one-hot rows, float (B, L, 6561) or a `TokenMix`; gradients
            reach the policy.
        output: codes and predictions of the codec for the samples; gradients reach the policy.
        content_BLD: discrete content codes of the recordings in [0, 1], D = 4.
        style_BLD: discrete style codes of the recordings in [0, 1], D = 3.
        batch: the recordings with their labels; each is repeated for each of its samples, which
            have its length.
    """

    tokens: Tensor | TokenMix
    output: CodecOutput
    content_BLD: Tensor
    style_BLD: Tensor
    batch: Batch


def code_loss(generated_BLD: Tensor, preference_BLD: Tensor, mask_BL: Tensor, norm: str) -> Mean:
    """L_cp or L_sp: unrounded code of the sample against the rounded one of the recording.

    Paper II-B writes an L1 norm, a sum. The mean over frames and dimensions is the released code's.

    Args:
        generated_BLD: code of the policy's sample before rounding, float (B, L, D) in [0, 1].
        preference_BLD: discrete code of the recording, float (B, L, D), on the grid.
        mask_BL: bool, true at real frames.
        norm: "l1" (paper) or "mse" (released code).

    Returns:
        Mean over real frames and dimensions, at least float32. Gradients reach `generated_BLD`.
    """
    difference = at_least_float32(generated_BLD) - preference_BLD
    distance = difference.abs() if norm == "l1" else difference.square()
    return mean_of(distance[mask_BL], "frames")


def affect_loss(codec_output: CodecOutput, batch: Batch) -> Mean:
    """Term `wvad`, L_wVAD: sum over V, A, D of 1 - CCC per utterance, mean over utterances.

    Args:
        codec_output: output of the codec for the sample; `vad_BW3` is float (B, W, 3).
        batch: the recordings, with word spans, int64 (B, W, 2), and labels, float32 (B, W, 3).

    Returns:
        Mean over utterances with words, at least float32; gradients reach `codec_output.vad_BW3`.
    """
    return word_vad_loss(batch.vad_BW3, codec_output.vad_BW3, covered_words(batch.spans_BW2))


def intelligibility_loss(codec_output: CodecOutput, target_BJ: Tensor, mask_BJ: Tensor) -> Mean:
    """Term `asr`, L_ASR: cross-entropy of the transcript under the codec's text decoder.

    Args:
        codec_output: output of the codec for the sample; `text_BJV` holds logits (B, J, V).
        target_BJ: target tokens of the text decoder, int64 (B, J).
        mask_BJ: bool (B, J), true at real targets.

    Returns:
        Mean over real targets, at least float32; gradients reach `codec_output.text_BJV`.
    """
    return text_cross_entropy(codec_output.text_BJV, target_BJ, mask_BJ)


def emotion_loss(codec_output: CodecOutput, batch: Batch) -> Mean:
    """Term `ser`, L_SER: cross-entropy against the emotion teacher's posterior of the recording.

    Args:
        codec_output: output of the codec for the sample; `emotion_B9` holds logits (B, 9).
        batch: the recordings, with the teacher's posteriors, float32 (B, 9).

    Returns:
        Mean over utterances, at least float32; gradients reach `codec_output.emotion_B9`.
    """
    return soft_cross_entropy(codec_output.emotion_B9, batch.emotion_B9)


def kl_divergence(
    policy_BLV: Tensor,
    reference_BLV: Tensor,
    mask_BL: Tensor,
    reduction: Literal["sum", "mean"],
) -> Mean:
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
        Mean in nats, at least float32. Gradients reach `policy_BLV`, and `reference_BLV` if it
        has a graph.
    """
    policy = at_least_float32(policy_BLV[mask_BL]).log_softmax(-1)
    reference = at_least_float32(reference_BLV[mask_BL]).log_softmax(-1)
    divergence = (policy.exp() * (policy - reference)).sum(-1)
    if reduction == "mean":
        return mean_of(divergence, "positions")
    return Mean(divergence.sum(), len(mask_BL), "utterances")
