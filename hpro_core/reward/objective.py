"""What a reward stage minimises: L = sum of lambda_i L_i (paper II-B, table of stages in III-B).

Letters: B batch, L speech token, V output class.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpro_core.codec.model import HdEmo
from hpro_core.codec.training import text_of
from hpro_core.engine import fsq
from hpro_core.engine.batching import Batch
from hpro_core.params import Reward, RewardStage, Variant, required
from hpro_core.policy.model import SpeechLM, speech_targets
from hpro_core.reward import gumbel
from hpro_core.reward.frame import code_loss
from hpro_core.reward.kl import kl_divergence
from hpro_core.reward.sentence import emotion_loss
from hpro_core.reward.word import affect_loss, intelligibility_loss

TERMS = ("kl", "sp", "cp", "asr", "wvad", "ser")
"""KL; style and content preference (frame); ASR and wVAD (word); SER (sentence)."""


@dataclass(frozen=True)
class Objective:
    """Weights and temperature of one training."""

    weights: dict[str, float]  # of TERMS; a term of weight 0 is computed and logged, not trained
    temperature: float
    frame_norm: Literal["l1", "mse"]


def objective_of(variant: Variant, settings: Reward) -> Objective:
    """The objective of a variant: its stage's, less the terms that it drops."""
    stage = required(settings, variant.stage, RewardStage)
    weights = {t: 0.0 if t in variant.drop else getattr(stage.weights, t) for t in TERMS}
    temperature = stage.temperature if variant.temperature is None else variant.temperature
    return Objective(weights, temperature, settings.frame_norm)


def reward_terms(
    policy: SpeechLM,
    reference: SpeechLM,
    codec: HdEmo,
    batch: Batch,
    objective: Objective,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Every term of the objective on a batch, their weighted sum, and what to watch.

    The policy reads the true history (teacher forcing), so its sample has the length of the
    recording, and frames, words and transcript of the recording apply to it.

    Args:
        policy: being trained; gradients reach it alone.
        reference: the frozen SFT policy.
        codec: frozen, in eval mode.
        batch: recordings, as tokens, with labels.
        objective: weights, temperature, norm.
        generator: of the Gumbel noise.

    Returns:
        "loss", the six TERMS, and "code_agreement_content", "code_agreement_style" (share of
        frames whose code equals the recording's), "entropy" of the policy in nats.
    """
    logits_BLV = policy(batch).logits_BLV
    with torch.no_grad():
        reference_BLV = reference(batch).logits_BLV
        content, style = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
    sample = gumbel.sample(logits_BLV[:, :-1], objective.temperature, generator)
    text, target, text_mask = text_of(batch)
    reading = codec(sample, batch.token_lengths_B, batch.spans_BW2, text)
    mask = batch.token_mask_BL
    _, position_mask = speech_targets(batch)
    terms = {
        "kl": kl_divergence(logits_BLV, reference_BLV, position_mask),
        "sp": code_loss(reading.style_BLD, style, mask, objective.frame_norm),
        "cp": code_loss(reading.content_BLD, content, mask, objective.frame_norm),
        "asr": intelligibility_loss(reading, target, text_mask),
        "wvad": affect_loss(reading, batch),
        "ser": emotion_loss(reading, batch),
    }
    total = torch.stack([objective.weights[t] * terms[t] for t in TERMS if objective.weights[t]])
    levels = codec.config
    return {
        "loss": total.sum(),
        **terms,
        "code_agreement_content": _agreement(
            reading.content_BLD, content, levels.content_levels, mask
        ),
        "code_agreement_style": _agreement(reading.style_BLD, style, levels.style_levels, mask),
        "entropy": _entropy(logits_BLV, position_mask),
    }


@torch.no_grad()
def _agreement(generated_BLD: Tensor, truth_BLD: Tensor, levels: int, mask_BL: Tensor) -> Tensor:
    generated = fsq.to_indices(fsq.quantise(generated_BLD, levels), levels)
    return (generated == fsq.to_indices(truth_BLD, levels))[mask_BL].float().mean()


@torch.no_grad()
def _entropy(logits_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    log_p = logits_BLV[mask_BL].float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()
