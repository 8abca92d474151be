"""Diagnostics of a reward training, logged beside the terms.

With the terms they are all that the released reward function returns (its emotion similarity, error
rate and index accuracies), and entropy and stopping of the policy. Nothing here is trained on.
Letters: B batch, J text position, L speech token, P = L + 1 position, V output class, D dimension.
"""

import torch
from torch import Tensor

from hpro_core.codec.model import CodecConfig, CodecOutput
from hpro_core.engine import fsq
from hpro_core.engine.batching import Batch, length_mask
from hpro_core.engine.precision import at_least_float32
from hpro_core.policy.interface import END_OF_SPEECH


@torch.no_grad()
def codec_diagnostics(
    reading: CodecOutput,
    content_BLD: Tensor,
    style_BLD: Tensor,
    target_BJ: Tensor,
    target_mask_BJ: Tensor,
    batch: Batch,
    config: CodecConfig,
) -> dict[str, Tensor]:
    """Diagnostics of the codec's output for the policy's samples.

    Args:
        reading: of the policy's samples.
        content_BLD: discrete content codes of the recordings.
        style_BLD: their discrete style codes.
        target_BJ: what the text decoder should write.
        target_mask_BJ: true at real targets.
        batch: the recordings, each as often as it has samples.
        config: levels of the codes.

    Returns:
        code_agreement_content, code_agreement_style: share of frames whose code is the recording's.
        emotion_similarity: cosine of the heard emotion posterior and the teacher's.
        symbol_error_rate: share of text positions that the teacher-forced decoder gets wrong.
    """
    mask = batch.token_mask_BL
    heard = at_least_float32(reading.emotion_B9).softmax(-1)
    wrong = reading.text_BJV.argmax(-1) != target_BJ
    return {
        "code_agreement_content": code_agreement(
            reading.content_BLD, content_BLD, config.content_levels, mask
        ),
        "code_agreement_style": code_agreement(
            reading.style_BLD, style_BLD, config.style_levels, mask
        ),
        "emotion_similarity": torch.cosine_similarity(heard, batch.emotion_B9).mean(),
        "symbol_error_rate": wrong[target_mask_BJ].float().mean(),
    }


@torch.no_grad()
def policy_diagnostics(logits_BPV: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Signs in the policy's logits after its history.

    Returns:
        entropy: of the policy in nats, mean over positions.
        stop_at_end, stop_before_end: see `stopping`.
    """
    at_end, before_end = stopping(logits_BPV, batch.token_lengths_B)
    return {
        "entropy": entropy(logits_BPV, length_mask(batch.token_lengths_B + 1, logits_BPV.shape[1])),
        "stop_at_end": at_end,
        "stop_before_end": before_end,
    }


def code_agreement(
    generated_BLD: Tensor, truth_BLD: Tensor, levels: int, mask_BL: Tensor
) -> Tensor:
    """Share of frames whose rounded code is the recording's."""
    generated = fsq.to_indices(fsq.quantise(generated_BLD, levels), levels)
    return (generated == fsq.to_indices(truth_BLD, levels))[mask_BL].float().mean()


def entropy(logits_BPV: Tensor, mask_BP: Tensor) -> Tensor:
    """Entropy over all output classes in nats, mean over real positions."""
    log_p = at_least_float32(logits_BPV[mask_BP]).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


def stopping(logits_BPV: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """Length drift: does the policy, reading the recording, stop where the recording does?

    No reward sees the end of speech; only the KL term holds it. When the first number falls, speech
    will run on; when the second rises, it will be cut short.

    Args:
        logits_BPV: position t predicts token t, position `length` the end.
        lengths_B: speech tokens of each recording.

    Returns:
        Probability of the end right after the last token, and of an end anywhere before it,
        1 - prod over t < length of (1 - p_t(end)); each a mean over utterances.
    """
    logits = at_least_float32(logits_BPV)
    log_end_BP = logits[..., END_OF_SPEECH] - logits.logsumexp(-1)
    at_end_B = log_end_BP.gather(1, lengths_B[:, None])[:, 0].exp()
    going_on_BP = torch.log1p(-log_end_BP.exp().clamp(max=1 - 1e-6))
    inside = length_mask(lengths_B, log_end_BP.shape[1])
    before_B = -torch.expm1((going_on_BP * inside).sum(1))
    return at_end_B.mean(), before_B.mean()
