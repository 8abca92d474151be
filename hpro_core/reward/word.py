"""Word-level rewards: P_wVAD(A_wvad | S) and P_ASR(Y | S) (paper II-B, stage II).

They are the losses that trained the codec's heads, read by the frozen codec from the policy's
sample: `codec.losses.word_vad_loss` on the recording's word spans, and
`codec.losses.text_cross_entropy` of the transcript.
"""

from torch import Tensor

from hpro_core.codec.losses import text_cross_entropy, word_vad_loss
from hpro_core.codec.model import Reading
from hpro_core.engine.batching import Batch, length_mask


def affect_loss(reading: Reading, batch: Batch) -> Tensor:
    """L_wVAD of the sample: sum over V, A, D of 1 - CCC per utterance, mean over utterances."""
    mask_BW = length_mask(batch.word_lengths_B, batch.vad_BW3.shape[1])
    return word_vad_loss(batch.vad_BW3, reading.vad_BW3, mask_BW)


def intelligibility_loss(reading: Reading, target_BJ: Tensor, mask_BJ: Tensor) -> Tensor:
    """L_ASR of the sample: how badly the codec's text decoder reads the transcript from it."""
    return text_cross_entropy(reading.text_BJV, target_BJ, mask_BJ)
