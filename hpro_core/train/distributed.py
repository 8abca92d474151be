"""Data parallelism over the processes that `accelerate launch` starts.

Every process holds the whole model, draws the same batch and computes the loss of its own rows. The
sum of the gradients of all processes is the gradient of the batch (see `terms`). Gradients are
summed after the backward pass. DistributedDataParallel is not used, because its hooks cover
`forward` only, and codec and policy are called through other methods too.
"""

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from hpro_core.errors import HproError
from hpro_core.train.terms import Mean, Terms

ValueT = TypeVar("ValueT")

MAX_WAIT = timedelta(hours=3)
"""Timeout of collectives: the other processes wait while process 0 evaluates generated audio."""


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes."""

    index: int = 0
    count: int = 1

    @classmethod
    def init_distributed(cls, device: torch.device) -> "Ranks":
        """Initialise the process group from the environment; a single process without one.

        Args:
            device: device of the model; the backend is NCCL on a GPU and gloo on a CPU.
        """
        if process_count() == 1 or "LOCAL_RANK" not in os.environ:
            return cls()
        from accelerate import PartialState  # slow to import, and rarely needed

        if not distributed.is_initialized():
            atexit.register(distributed.destroy_process_group)
        threads = torch.get_num_threads()
        state = PartialState(cpu=device.type == "cpu", timeout=MAX_WAIT)
        torch.set_num_threads(threads)  # PartialState changes it
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, which writes the files."""
        return self.index == 0

    def broadcast_weights(self, model: nn.Module) -> None:
        """Copy the weights and buffers of process 0 to all processes, in place."""
        if self.count > 1:
            for value in model.state_dict().values():
                distributed.broadcast(value, src=0)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace gradients by their sum over processes, in place; a missing one counts as zero."""
        if self.count == 1:
            return
        trained = list(parameters)
        present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32)
        present = present.to(trained[0].device)
        distributed.all_reduce(present, op=distributed.ReduceOp.MAX)
        for parameter, has_gradient in zip(trained, present.tolist(), strict=True):
            if has_gradient:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def sum_terms(self, terms: Terms) -> Terms:
        """Add the terms of all processes, detached."""
        if self.count == 1:
            return terms
        means = terms.means.values()
        sums = torch.stack([mean.sum.detach().double() for mean in means])
        counts = torch.tensor([mean.count for mean in means], device=sums.device)
        for values in (sums, counts):
            distributed.all_reduce(values)
        rows = zip(terms.means.items(), sums.unbind(), counts.tolist(), strict=True)
        summed = {name: Mean(total, count, mean.over) for (name, mean), total, count in rows}
        return Terms(summed, terms.weights)

    def broadcast_object(self, value: ValueT | None) -> ValueT:
        """Return the value of process 0 in every process; the values of the others are ignored."""
        box = [value]
        if self.count > 1:
            distributed.broadcast_object_list(box, src=0)
        received = box[0]
        assert received is not None
        return received

    def check_equal(self, value: int, what: str) -> None:
        """Check that this process and process 0 have the same value.

        Args:
            value: value of this process.
            what: name of the value, for the error message.

        Raises:
            HproError: the values differ.
        """
        first = self.broadcast_object(value)
        if value != first:
            raise HproError(
                f"{what} is {first} in the first process and {value} in process {self.index}: all "
                "processes must see the same files"
            )


def local_rank() -> int:
    """Return the rank of this process on its machine, which selects its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def process_count() -> int:
    """Return the number of processes of the training (WORLD_SIZE)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process writes the outputs of a stage (RANK 0)."""
    return int(os.environ.get("RANK", "0")) == 0
