"""Data parallelism over processes that `accelerate launch` starts.

Every process holds the whole model and draws the same batch. Each computes its own rows; the sum of
their gradients is the gradient of the batch (see `microbatch`). Gradients are summed after the
backward pass and not by DistributedDataParallel, whose hooks cover `forward` only: codec and policy
have other methods.
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

ValueT = TypeVar("ValueT")

LONGEST_WAIT = timedelta(hours=3)
"""Of one process for another: while the first judges generated audio, the others wait."""


@dataclass(frozen=True)
class Ranks:
    """Which process this is of how many."""

    index: int = 0
    count: int = 1

    @classmethod
    def init_distributed(cls, device: torch.device) -> "Ranks":
        """Join the processes that the environment tells of; alone where it tells of none.

        Args:
            device: of the model; the processes talk by NCCL on a GPU and by gloo on a CPU.
        """
        if process_count() == 1 or "LOCAL_RANK" not in os.environ:
            return cls()
        from accelerate import PartialState  # slow to import, and seldom needed

        if not distributed.is_initialized():
            atexit.register(distributed.destroy_process_group)
        threads = torch.get_num_threads()
        state = PartialState(cpu=device.type == "cpu", timeout=LONGEST_WAIT)
        torch.set_num_threads(threads)  # accelerate sets a number of its own
        return cls(state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.index == 0

    def broadcast_weights(self, model: nn.Module) -> None:
        """Give every process the weights and buffers of the first."""
        if self.count > 1:
            for value in model.state_dict().values():
                distributed.broadcast(value, src=0)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each process's gradients by their sum; one that only some have counts as zero."""
        if self.count == 1:
            return
        trained = list(parameters)
        present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32)
        present = present.to(trained[0].device)
        distributed.all_reduce(present, op=distributed.ReduceOp.MAX)
        for parameter, somewhere in zip(trained, present.tolist(), strict=True):
            if somewhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def summed(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms of each process, detached, as the sum over all of them."""
        if self.count == 1:
            return terms
        stacked = torch.stack([value.detach().double() for value in terms.values()])
        distributed.all_reduce(stacked)
        return dict(zip(terms, stacked.unbind(), strict=True))

    def broadcast_object(self, value: ValueT | None) -> ValueT:
        """What the first process knows; what the others hand in is not read."""
        box = [value]
        if self.count > 1:
            distributed.broadcast_object_list(box, src=0)
        told = box[0]
        assert told is not None
        return told

    def agree_on(self, value: int, what: str) -> None:
        """Make sure that this process and the first have the same.

        Raises:
            HproError: they have not.
        """
        first = self.broadcast_object(value)
        if value != first:
            raise HproError(
                f"{what} is {first} in the first process and {value} in process {self.index}: all "
                "processes must see the same files"
            )


def local_rank() -> int:
    """Number of this process among those of its machine: which GPU it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes what a stage makes, before or after its training."""
    return int(os.environ.get("RANK", "0")) == 0
