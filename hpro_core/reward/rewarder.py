"""All that stays the same while a policy is trained by reward, and what it computes of a batch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hpro_core.codec.model import HdEmo
from hpro_core.engine.batching import Batch
from hpro_core.engine.training import autocast, mean_terms
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.reward.draws import Draw, draw
from hpro_core.reward.gradient_norms import gradient_shares, logit_gradients, write_report
from hpro_core.reward.objective import Objective, reward_terms, terms_at, with_policy_history


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
        """All models are on the device; `bf16` is for matrix products alone."""
        self.policy = policy
        self.objective = objective
        self._reference = reference
        self._codec = codec
        self._device = device
        self._bf16 = bf16
        self._noise = torch.Generator(device)

    def draw(self, batch: Batch, seed: int) -> Draw:
        """The batch on the device, with noise by the seed."""
        generator = self._noise.manual_seed(seed)
        return draw(batch.to(self._device), generator, self.objective)

    def terms(self, drawn: Draw) -> dict[str, Tensor]:
        """See `objective.reward_terms`.

        The policy's dropout is off: its KL to the reference is then zero at the start, and what the
        codec rewards is the sample and not the mask.
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
        """Mean terms, with the same noise at every call, so that the points of a curve compare."""
        self._noise.manual_seed(0)
        once = replace(
            self.objective, samples=1, gumbel_rao_samples=0
        )  # gumbel_rao_samples are for gradients alone
        return mean_terms(
            lambda batch: self.terms(draw(batch.to(self._device), self._noise, once)), batches
        )

    def reward_over(self, batches: Sequence[Batch]) -> float:
        """The reward: minus the weighted terms without KL, mean over batches."""
        means = self.mean_over(batches)
        weights = self.objective.weights
        return -sum(weights[term] * means[term] for term in weights if term != "kl")

    def report_gradient_norms(self, drawn: Draw, label: str, path: Path) -> None:
        """Print and write the gradient norm of each term with respect to the policy's weights."""
        terms = self.terms(drawn)
        write_report(gradient_shares(terms, self.policy.parameters(), self.objective), label, path)

    def gradient_norms_at_logits(self, drawn: Draw) -> dict[str, float]:
        """See `gradient_norms.logit_gradients`."""
        self.policy.eval()
        with torch.no_grad(), autocast(self._device, self._bf16):
            batch = with_policy_history(self.policy, drawn.batch, self.objective, drawn.noise_KRBLC)
            logits = self.policy(batch).logits_BLV
            reference = self._reference(batch).logits_BLV

        def terms(leaf_BPV: Tensor) -> dict[str, Tensor]:
            with autocast(self._device, self._bf16):
                return terms_at(
                    leaf_BPV,
                    reference,
                    self._codec,
                    drawn.batch,
                    self.objective,
                    drawn.noise_KRBLC,
                )

        return logit_gradients(terms, logits, self.objective)
