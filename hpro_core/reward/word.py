"""Word-level rewards: P_wVAD(A_wvad | S) and P_ASR(Y | S) (paper II-B, stage II).

They are the losses that trained the codec's heads, computed by the frozen codec on the policy's
sample: `codec.losses.word_vad_loss` on the recording's word spans, and
`codec.losses.text_cross_entropy` of the transcript.

Letters: J text position.
"""

from torch import Tensor

from hpro_core.codec.losses import covered_words, text_cross_entropy, word_vad_loss
from hpro_core.codec.model import CodecOutput
from hpro_core.train.batching import Batch


def affect_loss(reading: CodecOutput, batch: Batch) -> Tensor:
    """L_wVAD of the sample: sum over V, A, D of 1 - CCC per utterance, mean over utterances.

    Args:
        reading: output of the codec for the sample.
        batch: the recordings, with word spans and labels.

    Returns:
        Scalar, at least float32; gradients reach `reading.vad_BW3`.
    """
    return word_vad_loss(batch.vad_BW3, reading.vad_BW3, covered_words(batch.spans_BW2))


def intelligibility_loss(reading: CodecOutput, target_BJ: Tensor, mask_BJ: Tensor) -> Tensor:
    """L_ASR of the sample: cross-entropy of the transcript under the codec's text decoder.

    Args:
        reading: output of the codec for the sample.
        target_BJ: target tokens of the text decoder, int64.
        mask_BJ: bool, true at real targets.

    Returns:
        Scalar, mean over real targets, at least float32; gradients reach `reading.text_BJV`.
    """
    return text_cross_entropy(reading.text_BJV, target_BJ, mask_BJ)
