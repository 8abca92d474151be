"""Sentence-level reward: P_SER(A_emo | S) (paper II-B, stage III)."""

from torch import Tensor

from hpro_core.codec.losses import soft_cross_entropy
from hpro_core.codec.model import CodecOutput
from hpro_core.train.batching import Batch


def emotion_loss(reading: CodecOutput, batch: Batch) -> Tensor:
    """L_SER of the sample: cross-entropy against the emotion teacher's posterior of the recording.

    Args:
        reading: output of the codec for the sample.
        batch: the recordings, with the teacher's posteriors.

    Returns:
        Scalar, mean over utterances, at least float32; gradients reach `reading.emotion_B9`.
    """
    return soft_cross_entropy(reading.emotion_B9, batch.emotion_B9)
