"""The models and the objective of one reward training, and the terms that they give for a batch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hpro_core.codec.model import HdEmo
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.reward.draws import Draw, draw
from hpro_core.reward.gradient_norms import gradient_shares, logit_gradients, write_report
from hpro_core.reward.objective import Objective, reward_terms, terms_at, with_policy_history
from hpro_core.train.batching import Batch
from hpro_core.train.loop import autocast, mean_terms


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

    def draw(self, batch: Batch, seed: int) -> Draw:
        """Move the batch to the device and draw its noise with this seed."""
        generator = self._noise.manual_seed(seed)
        return draw(batch.to(self._device), generator, self.objective)

    def terms(self, drawn: Draw) -> dict[str, Tensor]:
        """Compute the terms of a drawn batch, see `objective.reward_terms`.

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
        once = replace(self.objective, samples=1, gumbel_rao_samples=0)
        return mean_terms(
            lambda batch: self.terms(draw(batch.to(self._device), self._noise, once)), batches
        )

    def reward_over(self, batches: Sequence[Batch]) -> float:
        """The reward, mean over batches: minus the sum of the weighted terms without KL."""
        means = self.mean_over(batches)
        weights = self.objective.weights
        return -sum(weights[term] * means[term] for term in weights if term != "kl")

    def report_gradient_norms(self, drawn: Draw, label: str, path: Path) -> None:
        """Print and write each term's gradient norm with respect to the policy's weights.

        Args:
            drawn: a batch and its noise.
            label: name of the training in printed lines.
            path: JSON file to write, see `gradient_norms.write_report`.
        """
        terms = self.terms(drawn)
        write_report(gradient_shares(terms, self.policy.parameters(), self.objective), label, path)

    def gradient_norms_at_logits(self, drawn: Draw) -> dict[str, float]:
        """Norm of each weighted term's gradient at the logits, see `logit_gradients`."""
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
