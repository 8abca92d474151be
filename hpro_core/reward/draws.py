"""A training step's input: a batch and the Gumbel noise of its samples, split together.

Letters: K sample of an utterance, B batch, L speech token, C candidate, R draw of the noise (the
first one determines the sample).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpro_core.reward.gumbel import noise_for
from hpro_core.reward.objective import Objective, counts
from hpro_core.train.batching import Batch
from hpro_core.train.microbatch import BatchSplit, batch_rows, batch_size


@dataclass(frozen=True)
class Draw:
    """A batch and the Gumbel noise of its samples.

    Attributes:
        batch: the recordings.
        noise_KRBLC: standard Gumbel noise, float32.
    """

    batch: Batch
    noise_KRBLC: Tensor


def draw(batch: Batch, generator: torch.Generator, objective: Objective) -> Draw:
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
    return Draw(batch, torch.stack(noises))


def split_of(objective: Objective) -> BatchSplit[Draw]:
    """Rules to split a `Draw` into micro-batches and among processes, see `train.microbatch`."""
    return BatchSplit(
        size=lambda whole: batch_size(whole.batch),
        rows=_rows,
        counts=lambda part: counts(part.batch, objective.kl_reduction),
        weights=objective.weights,
    )


def _rows(whole: Draw, start: int, stop: int) -> Draw:
    batch = batch_rows(whole.batch, start, stop)
    return Draw(batch, whole.noise_KRBLC[:, :, start:stop, : batch.tokens_BL.shape[1]])
