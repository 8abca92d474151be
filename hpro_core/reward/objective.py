"""The loss of a reward stage: L = sum of lambda_i L_i (paper II-B; weights and temperatures III-B).

Letters: K sample of an utterance, B batch (times K where the codec reads the samples), L speech
token, P = L + 1 position, V output class, C candidate, R draw of the noise.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpro_core.codec.losses import covered_words
from hpro_core.codec.model import HdEmo
from hpro_core.codec.training import text_of
from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.params import Reward, RewardStage, Variant, required
from hpro_core.policy.interface import SpeechPolicy, speech_targets
from hpro_core.reward import gumbel
from hpro_core.reward.diagnostics import codec_diagnostics, policy_diagnostics
from hpro_core.reward.frame import code_loss
from hpro_core.reward.history import own_history
from hpro_core.reward.kl import kl_divergence
from hpro_core.reward.sentence import emotion_loss
from hpro_core.reward.word import affect_loss, intelligibility_loss
from hpro_core.train.batching import Batch

TERMS = ("kl", "sp", "cp", "asr", "wvad", "ser")
"""KL; style and content preference (frame); ASR and wVAD (word); SER (sentence)."""


@dataclass(frozen=True)
class Objective:
    """Weights, temperature and sampling of one training.

    Attributes:
        weights: weight of each of TERMS; a term of weight 0 is computed and logged only.
        temperature: tau of the Gumbel-softmax.
        frame_norm: "l1" (paper) or "mse" (released code), see `frame.code_loss`.
        kl_reduction: over an utterance's positions, see `kl.kl_divergence`.
        jacobi_iterations: iterations of `history.own_history`; 0: the recording's history.
        top_p: nucleus of the candidates, see `gumbel.within_nucleus`.
        top_k: maximum number of candidates, see `gumbel.within_nucleus`.
        samples: samples per utterance after one history; the terms are means over them.
        gumbel_rao_samples: additional noise draws of the backward pass, see `gumbel.sample`.
    """

    weights: dict[str, float]
    temperature: float
    frame_norm: Literal["l1", "mse"]
    kl_reduction: Literal["sum", "mean"] = "sum"
    jacobi_iterations: int = 0
    top_p: float = 1.0
    top_k: int = N_SPEECH_TOKENS
    samples: int = 1
    gumbel_rao_samples: int = 0

    @property
    def candidates(self) -> int:
        """Number of speech tokens that can be sampled at each position."""
        return min(self.top_k, N_SPEECH_TOKENS)


def objective_of(variant: Variant, settings: Reward) -> Objective:
    """Build a variant's objective: that of its stage, with weight 0 for the terms that it drops.

    Args:
        variant: stage, dropped terms and, where it has its own, temperature.
        settings: weights and temperatures of the stages, and the options of `Objective`.

    Raises:
        HproError: the settings have no section for the variant's stage.
    """
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
    """Compute every term of the objective on a batch, their weighted sum, and the diagnostics.

    The sample has the length of the recording, so the recording's frames, word spans and transcript
    apply to it. The policy is conditioned on the recording's history (teacher forcing; inferred for
    the paper) or on its own, which keeps the recording's timing (ours, see `history`).

    Args:
        policy: the policy in training, in eval mode; gradients reach it alone.
        reference: reference policy of the KL term, frozen.
        codec: frozen, in eval mode.
        batch: the recordings, as tokens, with labels.
        objective: weights, temperature, norm and sampling.
        noise_KRBLC: noise of the samples, see `gumbel.noise_for`; the first sample's noise also
            generates the history.

    Returns:
        Scalars: "loss", the six TERMS, and the diagnostics of `diagnostics`.
    """
    batch = with_policy_history(policy, batch, objective, noise_KRBLC)
    with torch.no_grad():
        reference_BPV = reference(batch).logits_BLV
    return terms_at(policy(batch).logits_BLV, reference_BPV, codec, batch, objective, noise_KRBLC)


def with_policy_history(
    policy: SpeechPolicy, batch: Batch, objective: Objective, noise_KRBLC: Tensor
) -> Batch:
    """The batch with the history that the objective conditions the policy on."""
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
    """As `reward_terms`, from logits of policy and reference, (B, P, V), after the same history."""
    k = len(noise_KRBLC)
    with torch.no_grad():
        codes = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
        content, style = (code_BLD.repeat(k, 1, 1) for code_BLD in codes)
    candidates = gumbel.within_nucleus(logits_BPV[:, :-1], objective.top_p, objective.top_k)
    noise_RBLC = noise_KRBLC.transpose(0, 1).flatten(1, 2)
    sample = gumbel.sample(candidates.repeated(k), objective.temperature, noise_RBLC)
    _, position_mask = speech_targets(batch)
    kl = kl_divergence(logits_BPV, reference_BPV, position_mask, objective.kl_reduction)
    spoken = policy_diagnostics(logits_BPV, batch)

    batch = batch.repeated(k)  # the codec processes all samples in one call
    text, target, text_mask = text_of(batch, codec.compatibility)
    reading = codec(sample, batch.token_lengths_B, batch.spans_BW2, text)
    mask, norm = batch.token_mask_BL, objective.frame_norm
    terms = {
        "kl": kl,
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
