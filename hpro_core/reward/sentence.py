"""Sentence-level reward: P_SER(A_emo | S) (paper II-B, stage III)."""

from torch import Tensor

from hpro_core.codec.losses import soft_cross_entropy
from hpro_core.codec.model import CodecOutput
from hpro_core.engine.batching import Batch


def emotion_loss(reading: CodecOutput, batch: Batch) -> Tensor:
    """L_SER of the sample against the emotion teacher's posterior of the recording."""
    return soft_cross_entropy(reading.emotion_B9, batch.emotion_B9)
