"""Batches prepared in other processes while the model trains."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

BatchT = TypeVar("BatchT")


class Prefetch(Generic[BatchT]):
    """The batches of a function of the step alone: called with one step after the other, the same.

    It must draw no random numbers but those of a generator of its own: a process that makes a batch
    ahead has another global state than the one that trains.
    """

    def __init__(self, batch_at: Callable[[int], BatchT], steps: int, processes: int):
        """
        Args:
            batch_at: the batch of a step, counted from 1.
            steps: the last step.
            processes: that make batches, at least one; they are forked and share the corpus.
        """
        self._batches_of = _Steps(batch_at)
        self._steps = steps
        self._processes = processes
        self._next = 0
        self._batches: Iterator[BatchT] = iter(())

    def __call__(self, step: int) -> BatchT:
        """The batch of a step; any, but following the last one it is ready."""
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
            generator=torch.Generator(),  # a loader draws a number, and not from the training's
        )


class _Steps(Dataset[BatchT]):
    def __init__(self, batch_at: Callable[[int], BatchT]):
        self._batch_at = batch_at

    def __getitem__(self, step: int) -> BatchT:
        return self._batch_at(step)
