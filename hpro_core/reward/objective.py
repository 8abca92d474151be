"""The loss of a reward stage: L = sum of lambda_i L_i (paper II-B; weights and temperatures III-B).

`Objective` has the settings, `reward_terms` computes the terms of a batch, and `Rewarder` holds the
models of a training.

Letters: K sample of an utterance, B batch (times K where the codec reads the samples), L speech
token, P = L + 1 position, V output class, C candidate, R draw of the noise (the first one
determines the sample).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hpro_core.codec.model import HdEmo
from hpro_core.codec.training import text_of
from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.errors import HproError
from hpro_core.params import Reward, RewardStage, Variant, require_section
from hpro_core.policy.interface import SpeechPolicy, speech_targets
from hpro_core.reward.diagnostics import (
    codec_diagnostics,
    gradient_shares,
    logit_gradients,
    policy_diagnostics,
    write_report,
)
from hpro_core.reward.losses import (
    RewardSample,
    affect_loss,
    code_loss,
    emotion_loss,
    intelligibility_loss,
    kl_divergence,
)
from hpro_core.reward.sampling import jacobi_history, noise_for, sample, within_nucleus
from hpro_core.reward.terms import own_term
from hpro_core.train.batching import Batch, Items
from hpro_core.train.loop import autocast, mean_terms
from hpro_core.train.terms import Terms

TERMS = ("kl", "sp", "cp", "asr", "wvad", "ser")
"""KL; style and content preference (frame); ASR and wVAD (word); SER (sentence)."""


@dataclass(frozen=True)
class Objective:
    """Weights, temperature and sampling of one training.

    Attributes:
        weights: weight of each of TERMS, and of the terms of `reward.terms` that the stage names; a
            term of weight 0 is computed and logged only.
        temperature: tau of the Gumbel-softmax.
        frame_norm: "l1" (paper) or "mse" (released code), see `losses.code_loss`.
        kl_reduction: over an utterance's positions, see `losses.kl_divergence`.
        jacobi_iterations: iterations of `sampling.jacobi_history`; 0: the recording's history.
        top_p: nucleus of the candidates, see `sampling.within_nucleus`.
        top_k: maximum number of candidates, see `sampling.within_nucleus`.
        samples: samples per utterance after one history; the terms are means over them.
        gumbel_rao_samples: additional noise draws of the backward pass, see `sampling.sample`.
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
    """Build a variant's objective.

    Args:
        variant: its stage, and the settings that it replaces.
        settings: weights and temperatures of the stages, and the options of `Objective`.

    Raises:
        HproError: the settings have no section for the variant's stage.
    """
    settings = variant.applied_to(settings)
    stage = require_section(settings, variant.stage, RewardStage)
    return Objective(
        weights=stage.weights.model_dump(),
        temperature=stage.temperature,
        frame_norm=settings.frame_norm,
        kl_reduction=settings.kl_reduction,
        jacobi_iterations=settings.jacobi_iterations,
        top_p=settings.top_p,
        top_k=settings.top_k,
        samples=settings.samples,
        gumbel_rao_samples=settings.gumbel_rao_samples,
    )


def reward_terms(
    policy: SpeechPolicy,
    reference: SpeechPolicy,
    codec: HdEmo,
    batch: Batch,
    objective: Objective,
    noise_KRBLC: Tensor,
) -> Terms:
    """Compute every term of the objective on a batch, and the diagnostics.

    The sample has the length of the recording, so the recording's frames, word spans and transcript
    apply to it. The policy is conditioned on the recording's history (teacher forcing; inferred for
    the paper) or on its own, which keeps the recording's timing (ours, see `sampling`).

    Args:
        policy: the policy in training, in eval mode; gradients reach it alone.
        reference: reference policy of the KL term, frozen.
        codec: frozen, in eval mode.
        batch: the recordings, as tokens, with labels.
        objective: weights, temperature, norm and sampling.
        noise_KRBLC: noise of the samples, see `sampling.noise_for`; the first sample's noise also
            generates the history.

    Returns:
        The six TERMS, those of `reward.terms` in the weights, and the values of `diagnostics`.
    """
    batch = with_policy_history(policy, batch, objective, noise_KRBLC)
    with torch.no_grad():
        reference_BPV = reference(batch).logits_BLV
    return terms_at(policy(batch).logits_BLV, reference_BPV, codec, batch, objective, noise_KRBLC)


def with_policy_history(
    policy: SpeechPolicy, batch: Batch, objective: Objective, noise_KRBLC: Tensor
) -> Batch:
    """The batch with the history that the objective conditions the policy on."""
    iterations, top_p, top_k = objective.jacobi_iterations, objective.top_p, objective.top_k
    return jacobi_history(policy, batch, noise_KRBLC[0, 0], iterations, top_p, top_k)


def terms_at(
    logits_BPV: Tensor,
    reference_BPV: Tensor,
    codec: HdEmo,
    batch: Batch,
    objective: Objective,
    noise_KRBLC: Tensor,
) -> Terms:
    """As `reward_terms`, from logits of policy and reference, (B, P, V), after the same history."""
    k = len(noise_KRBLC)
    with torch.no_grad():
        codes = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
        content, style = (code_BLD.repeat(k, 1, 1) for code_BLD in codes)
    candidates = within_nucleus(logits_BPV[:, :-1], objective.top_p, objective.top_k)
    noise_RBLC = noise_KRBLC.transpose(0, 1).flatten(1, 2)
    drawn = sample(candidates.repeated(k), objective.temperature, noise_RBLC)
    _, position_mask = speech_targets(batch)
    kl = kl_divergence(logits_BPV, reference_BPV, position_mask, objective.kl_reduction)
    policy_metrics = policy_diagnostics(logits_BPV, batch)

    batch = batch.repeated(k)  # the codec processes all samples in one call
    text, target, text_mask = text_of(batch, codec.compatibility)
    codec_output = codec(drawn, batch.token_lengths_B, batch.spans_BW2, text)
    mask, norm = batch.token_mask_BL, objective.frame_norm
    terms = {
        "kl": kl,
        "sp": code_loss(codec_output.style_BLD, style, mask, norm),
        "cp": code_loss(codec_output.content_BLD, content, mask, norm),
        "asr": intelligibility_loss(codec_output, target, text_mask),
        "wvad": affect_loss(codec_output, batch),
        "ser": emotion_loss(codec_output, batch),
    }
    sampled = RewardSample(drawn, codec_output, content, style, batch)
    terms |= {name: own_term(name)(sampled) for name in objective.weights if name not in terms}
    codec_metrics = codec_diagnostics(
        codec_output, content, style, target, text_mask, batch, codec.config
    )
    logged = {**codec_metrics, **policy_metrics}
    if taken := terms.keys() & logged.keys():
        raise HproError(f"reward term {min(taken)}: a diagnostic has this name: rename its module")
    return Terms({**terms, **logged}, objective.weights)


@dataclass(frozen=True)
class NoisyBatch:
    """A batch and the Gumbel noise of its samples.

    Attributes:
        batch: the recordings.
        noise_KRBLC: standard Gumbel noise, float32.
    """

    batch: Batch
    noise_KRBLC: Tensor

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.batch)

    def rows(self, start: int, stop: int) -> "NoisyBatch":
        """Rows `start` to before `stop`; each utterance keeps its noise."""
        batch = self.batch.rows(start, stop)
        return NoisyBatch(batch, self.noise_KRBLC[:, :, start:stop, : batch.tokens_BL.shape[1]])

    def counts(self) -> dict[Items, int]:
        """See `Batch.counts`."""
        return self.batch.counts()


def draw_noise(batch: Batch, generator: torch.Generator, objective: Objective) -> NoisyBatch:
    """Draw new noise for the objective's samples of each utterance.

    Args:
        batch: the recordings, on the generator's device.
        generator: source of the noise.
        objective: numbers of samples, of noise draws per sample, and of candidates.

    Returns:
        The batch and its noise.
    """
    noises = [
        noise_for(batch.tokens_BL, generator, objective.gumbel_rao_samples, objective.candidates)
        for _ in range(objective.samples)
    ]
    return NoisyBatch(batch, torch.stack(noises))


class Rewarder:
    """A policy, its frozen reference, the frozen codec, and the objective of one training."""

    def __init__(
        self,
        policy: SpeechPolicy,
        reference: SpeechPolicy,
        codec: HdEmo,
        objective: Objective,
        device: torch.device,
        bf16: bool,
    ):
        """
        Args:
            policy: the policy in training.
            reference: reference policy of the KL term, frozen.
            codec: frozen, in eval mode.
            objective: weights, temperature, norm and sampling.
            device: device of all models.
            bf16: run matrix products in bfloat16 (autocast).
        """
        self.policy = policy
        self.objective = objective
        self._reference = reference
        self._codec = codec
        self._device = device
        self._bf16 = bf16
        self._noise = torch.Generator(device)

    def draw_noise(self, batch: Batch, seed: int) -> NoisyBatch:
        """Move the batch to the device and draw its noise with this seed."""
        generator = self._noise.manual_seed(seed)
        return draw_noise(batch.to(self._device), generator, self.objective)

    def terms(self, drawn: NoisyBatch) -> Terms:
        """Compute the terms of a drawn batch, see `reward_terms`.

        Dropout of the policy is off (ours). The KL to the reference is then zero at the start, and
        the reward depends on the sample and not on a dropout mask.
        """
        self.policy.eval()
        with autocast(self._device, self._bf16):
            return reward_terms(
                self.policy,
                self._reference,
                self._codec,
                drawn.batch,
                self.objective,
                drawn.noise_KRBLC,
            )

    def mean_over(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Mean terms over batches; each call uses the same noise, so that calls are comparable."""
        self._noise.manual_seed(0)
        # gumbel_rao_samples affect gradients only.
        single_sample = replace(self.objective, samples=1, gumbel_rao_samples=0)
        return mean_terms(
            lambda batch: self.terms(
                draw_noise(batch.to(self._device), self._noise, single_sample)
            ),
            batches,
        )

    def reward_over(self, batches: Sequence[Batch]) -> float:
        """The reward, mean over batches: minus the sum of the weighted terms without KL."""
        means = self.mean_over(batches)
        weights = self.objective.weights
        return -sum(weights[term] * means[term] for term in weights if term != "kl")

    def report_gradient_norms(self, drawn: NoisyBatch, label: str, path: Path) -> None:
        """Print and write each term's gradient norm with respect to the policy's weights.

        Args:
            drawn: a batch and its noise.
            label: name of the training in printed lines.
            path: JSON file to write, see `diagnostics.write_report`.
        """
        terms = self.terms(drawn)
        write_report(
            gradient_shares(terms, self.policy.parameters(), self.objective.weights), label, path
        )

    def gradient_norms_at_logits(self, drawn: NoisyBatch) -> dict[str, float]:
        """Norm of each weighted term's gradient at the logits, see `logit_gradients`."""
        self.policy.eval()
        with torch.no_grad(), autocast(self._device, self._bf16):
            batch = with_policy_history(self.policy, drawn.batch, self.objective, drawn.noise_KRBLC)
            logits = self.policy(batch).logits_BLV
            reference = self._reference(batch).logits_BLV

        def terms(leaf_BPV: Tensor) -> Terms:
            with autocast(self._device, self._bf16):
                return terms_at(
                    leaf_BPV,
                    reference,
                    self._codec,
                    drawn.batch,
                    self.objective,
                    drawn.noise_KRBLC,
                )

        return logit_gradients(terms, logits, self.objective.weights)
