"""Batches prepared in worker processes while the model trains."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

BatchT = TypeVar("BatchT")


class Prefetch(Generic[BatchT]):
    """Calls `batch_at` in worker processes ahead of the steps and returns the same batches.

    `batch_at` must be a function of the step alone. It must draw random numbers only from its own
    generator, because the global random state of a worker differs from that of the training.
    """

    def __init__(self, batch_at: Callable[[int], BatchT], steps: int, processes: int):
        """
        Args:
            batch_at: returns the batch of a step, counted from 1.
            steps: last step.
            processes: number of worker processes, at least 1; they are forked and share the corpus.
        """
        self._batches_of = _Steps(batch_at)
        self._steps = steps
        self._processes = processes
        self._next = 0
        self._batches: Iterator[BatchT] = iter(())

    def __call__(self, step: int) -> BatchT:
        """Return the batch of a step; it is prefetched if the step follows the last one."""
        if step != self._next:
            self._batches = iter(self._loader(step))
        self._next = step + 1
        return next(self._batches)

    def _loader(self, first: int) -> DataLoader[BatchT]:
        return DataLoader(
            self._batches_of,
            batch_size=None,
            sampler=range(first, self._steps + 1),
            num_workers=self._processes,
            prefetch_factor=4,
            multiprocessing_context="fork",
            generator=torch.Generator(),  # keeps the loader's draw off the global random state
        )


class _Steps(Dataset[BatchT]):
    def __init__(self, batch_at: Callable[[int], BatchT]):
        self._batch_at = batch_at

    def __getitem__(self, step: int) -> BatchT:
        return self._batch_at(step)
