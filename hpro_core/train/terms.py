"""Loss terms as sums with counts, so that the terms of parts of a batch add up.

A batch is cut into micro-batches for gradient accumulation, and over processes. A term is a mean
over items of a batch, such as frames or utterances, and parts differ in their number of items. The
loss of a part is therefore its share of the loss of the whole batch: gradients of parts add up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from hpro_core.errors import HproError
from hpro_core.train.batching import Items
from hpro_core.train.precision import at_least_float32


@dataclass(frozen=True)
class Mean:
    """A mean over items of a batch, as a sum and a count.

    Attributes:
        sum: scalar, sum over the items; gradients pass.
        count: number of summands.
        over: kind of items. An item may have several summands, such as the dimensions of a frame.
    """

    sum: Tensor
    count: int
    over: Items

    @property
    def value(self) -> Tensor:
        """The mean, a scalar; NaN if there are no items."""
        return self.sum / self.count


def mean_of(values: Tensor, over: Items) -> Mean:
    """The mean of all elements of a tensor.

    Args:
        values: float, without padding.
        over: kind of items, see `Mean`.
    """
    return Mean(values.sum(), values.numel(), over)


def cross_entropy(logits_NC: Tensor, target: Tensor, over: Items) -> Mean:
    """Cross-entropy of classes (N,), int64, or of distributions (N, C), in float32 or better.

    Args:
        logits_NC: logits of N items; gradients reach them.
        target: true classes or distributions.
        over: kind of items, see `Mean`.
    """
    total = functional.cross_entropy(at_least_float32(logits_NC), target, reduction="sum")
    return Mean(total, len(target), over)


class Terms(dict[str, Tensor]):
    """Values of the terms of a batch by name, and their weighted sum "loss".

    Attributes:
        means: the terms as sums and counts.
        weights: weight of each term in the loss; a term without weight is only logged.
    """

    def __init__(self, means: Mapping[str, Mean], weights: Mapping[str, float]):
        self.means = dict(means)
        self.weights = dict(weights)
        values = {name: mean.value for name, mean in means.items()}
        weighted = [weight * values[name] for name, weight in weights.items() if weight]
        super().__init__(loss=torch.stack(weighted).sum(), **values)

    def share(self, part: Mapping[Items, int], whole: Mapping[Items, int]) -> Tensor:
        """Contribution of a part of a batch to the loss of the whole batch, with gradients.

        Args:
            part: number of items in the part that these terms are of.
            whole: number of items in the whole batch.
        """
        shares = [
            weight * (part[mean.over] / whole[mean.over] * self[name])
            for name, weight in self.weights.items()
            if weight and (mean := self.means[name]).count
        ]
        return torch.stack(shares).sum()

    def check(self, whole: Mapping[Items, int], part: "Terms", items: Mapping[Items, int]) -> None:
        """Check that each weighted term of a batch in parts runs over the items that it names.

        Args:
            whole: number of items in the whole batch, whose terms these are.
            part: terms of a part.
            items: number of items in that part.

        Raises:
            HproError: the number of summands of a term is not in proportion to its items, so
                `share` weighted its parts wrongly.
        """
        for name, weight in self.weights.items():
            mean, own = self.means[name], part.means[name]
            if weight and mean.count * items[mean.over] != own.count * whole[mean.over]:
                raise HproError(
                    f"the term {name} is a mean of {mean.count} values over {whole[mean.over]} "
                    f"{mean.over}, but of {own.count} over {items[mean.over]} in a part of the "
                    "batch: correct `over` of its Mean"
                )

    def detached(self) -> "Terms":
        """The same terms without gradients."""
        means = {n: replace(mean, sum=mean.sum.detach()) for n, mean in self.means.items()}
        return Terms(means, self.weights)

    def plus(self, other: "Terms") -> "Terms":
        """The terms of two parts of a batch together."""
        means = {
            name: Mean(mean.sum + added.sum, mean.count + added.count, mean.over)
            for name, mean in self.means.items()
            for added in [other.means[name]]
        }
        return Terms(means, self.weights)


@runtime_checkable
class Divisible(Protocol):
    """A batch that can be cut into parts."""

    def __len__(self) -> int:
        """Number of rows."""

    def rows(self, start: int, stop: int) -> Self:
        """The part from row `start` to before row `stop`."""

    def counts(self) -> Mapping[Items, int]:
        """Number of items of each kind."""


DivisibleT = TypeVar("DivisibleT", bound=Divisible)


def cut(batch: DivisibleT, pieces: int) -> list[DivisibleT]:
    """Cut a batch into `pieces` parts whose sizes differ by at most one row.

    Raises:
        HproError: the batch has fewer rows than parts.
    """
    size = len(batch)
    if size < pieces:
        raise HproError(
            f"a batch of {size} utterances cannot be cut into {pieces} parts (accumulate x "
            "processes): raise batch_size, lower accumulate or start fewer processes"
        )
    edges = [size * piece // pieces for piece in range(pieces + 1)]
    return [batch.rows(a, b) for a, b in pairwise(edges)]
