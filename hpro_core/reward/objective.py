"""What a reward stage minimises: L = sum of lambda_i L_i (paper II-B, table of stages in III-B).

Letters: K sample of an utterance, B batch (of all samples, where they are read), L speech token,
P = L + 1 position, V output class, C candidate, R redraw of the noise.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpro_core.codec.losses import covered_words
from hpro_core.codec.model import HdEmo
from hpro_core.codec.training import text_of
from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.batching import Batch
from hpro_core.params import Reward, RewardStage, Variant, required
from hpro_core.policy.interface import SpeechPolicy, speech_targets
from hpro_core.reward import gumbel
from hpro_core.reward.diagnostics import codec_diagnostics, policy_diagnostics
from hpro_core.reward.frame import code_loss
from hpro_core.reward.history import own_history
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
    kl_reduction: Literal["sum", "mean"] = "sum"  # over an utterance's tokens, see `kl`
    jacobi_iterations: int = 0  # see `history.own_history`
    top_p: float = 1.0  # of what can be drawn, see `gumbel.within_nucleus`
    top_k: int = N_SPEECH_TOKENS
    samples: int = 1  # of each utterance, after one history; the terms are their means
    gumbel_rao_samples: int = (
        0  # of the noise of each sample in the backward pass, see `gumbel.sample`
    )

    @property
    def candidates(self) -> int:
        """Speech tokens that a sample is drawn from at each position."""
        return min(self.top_k, N_SPEECH_TOKENS)


def objective_of(variant: Variant, settings: Reward) -> Objective:
    """The objective of a variant: its stage's, less the terms that it drops."""
    stage = required(settings, variant.stage, RewardStage)
    weights = {t: 0.0 if t in variant.drop else getattr(stage.weights, t) for t in TERMS}
    temperature = stage.temperature if variant.temperature is None else variant.temperature
    return Objective(
        weights,
        temperature,
        settings.frame_norm,
        settings.kl_reduction,
        settings.jacobi_iterations,
        settings.top_p,
        settings.top_k,
        settings.samples,
        settings.gumbel_rao_samples,
    )


def reward_terms(
    policy: SpeechPolicy,
    reference: SpeechPolicy,
    codec: HdEmo,
    batch: Batch,
    objective: Objective,
    noise_KRBLC: Tensor,
) -> dict[str, Tensor]:
    """Every term of the objective on a batch, their weighted sum, and what to watch.

    The sample has the length of the recording, and frames, words and transcript of the recording
    apply to it: the policy reads the true history (teacher forcing, paper) or one of its own that
    keeps the recording's timing (ours, see `history`).

    Args:
        policy: being trained, in eval mode; gradients reach it alone.
        reference: the frozen SFT policy.
        codec: frozen, in eval mode.
        batch: recordings, as tokens, with labels.
        objective: weights, temperature, norm.
        noise_KRBLC: of the samples, see `gumbel.noise_for`; the history continues the first.

    Returns:
        "loss", the six TERMS, and the signs of `diagnostics`.
    """
    batch = with_policy_history(policy, batch, objective, noise_KRBLC)
    with torch.no_grad():
        reference_BPV = reference(batch).logits_BLV
    return terms_at(policy(batch).logits_BLV, reference_BPV, codec, batch, objective, noise_KRBLC)


def with_policy_history(
    policy: SpeechPolicy, batch: Batch, objective: Objective, noise_KRBLC: Tensor
) -> Batch:
    """The batch with the history after which the policy is rewarded."""
    sweeps, top_p, top_k = objective.jacobi_iterations, objective.top_p, objective.top_k
    return own_history(policy, batch, noise_KRBLC[0, 0], sweeps, top_p, top_k)


def terms_at(
    logits_BPV: Tensor,
    reference_BPV: Tensor,
    codec: HdEmo,
    batch: Batch,
    objective: Objective,
    noise_KRBLC: Tensor,
) -> dict[str, Tensor]:
    """As `reward_terms`, from the logits of policy and reference after the same history."""
    k = len(noise_KRBLC)
    with torch.no_grad():
        codes = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
        content, style = (code_BLD.repeat(k, 1, 1) for code_BLD in codes)
    candidates = gumbel.within_nucleus(logits_BPV[:, :-1], objective.top_p, objective.top_k)
    noise_RBLC = noise_KRBLC.transpose(0, 1).flatten(1, 2)
    sample = gumbel.sample(candidates.repeated(k), objective.temperature, noise_RBLC)
    _, position_mask = speech_targets(batch)
    leash = kl_divergence(logits_BPV, reference_BPV, position_mask, objective.kl_reduction)
    spoken = policy_diagnostics(logits_BPV, batch)

    batch = batch.repeated(k)  # all samples are read at once
    text, target, text_mask = text_of(batch, codec.compatibility)
    reading = codec(sample, batch.token_lengths_B, batch.spans_BW2, text)
    mask, norm = batch.token_mask_BL, objective.frame_norm
    terms = {
        "kl": leash,
        "sp": code_loss(reading.style_BLD, style, mask, norm),
        "cp": code_loss(reading.content_BLD, content, mask, norm),
        "asr": intelligibility_loss(reading, target, text_mask),
        "wvad": affect_loss(reading, batch),
        "ser": emotion_loss(reading, batch),
    }
    heard = codec_diagnostics(reading, content, style, target, text_mask, batch, codec.config)
    total = torch.stack([objective.weights[t] * terms[t] for t in TERMS if objective.weights[t]])
    return {"loss": total.sum(), **terms, **heard, **spoken}


def counts(batch: Batch, kl_reduction: Literal["sum", "mean"]) -> dict[str, float]:
    """Number of items that each term and diagnostic averages over, for `BatchSplit`."""
    utterances, frames = len(batch.tokens_BL), int(batch.token_lengths_B.sum())
    symbols = int((batch.transcript_lengths_B - 1).sum())
    spoken = int(covered_words(batch.spans_BW2).any(1).sum())
    means = (
        (utterances if kl_reduction == "sum" else frames + utterances, ("kl",)),
        (frames + utterances, ("entropy",)),
        (frames, ("sp", "cp", "code_agreement_content", "code_agreement_style")),
        (symbols, ("asr", "symbol_error_rate")),
        (spoken, ("wvad",)),
        (utterances, ("ser", "emotion_similarity", "stop_at_end", "stop_before_end")),
    )
    return {name: float(count) for count, names in means for name in names}
