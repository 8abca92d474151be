"""Micro-batches: splitting a batch for gradient accumulation or over processes.

A loss term is a mean over items of a batch: frames, text positions or utterances. The mean of the
means of unequal parts differs from it, so each part is weighted by its number of items. The
gradients of the parts then add up to the gradient of the whole batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from torch import Tensor

from hpro_core.errors import HproError
from hpro_core.train.batching import Batch

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class BatchSplit(Generic[BatchT]):
    """Functions that split the batches of a training and weight the terms of the parts.

    Attributes:
        size: number of rows of a batch.
        rows: slice of a batch, given the first and one-past-last row.
        counts: number of items that each term averages over; terms without a count are dropped.
        weights: weight of each term in the loss; terms without a weight are only logged.
    """

    size: Callable[[BatchT], int]
    rows: Callable[[BatchT, int, int], BatchT]
    counts: Callable[[BatchT], Mapping[str, float]]
    weights: Mapping[str, float]

    def cut(self, batch: BatchT, pieces: int) -> list[BatchT]:
        """Split a batch into `pieces` parts whose sizes differ by at most one row.

        Raises:
            HproError: the batch has fewer rows than parts.
        """
        size = self.size(batch)
        if size < pieces:
            raise HproError(
                f"a batch of {size} utterances cannot be cut into {pieces} parts (accumulate x "
                "processes): raise batch_size, lower accumulate or start fewer processes"
            )
        edges = [size * piece // pieces for piece in range(pieces + 1)]
        return [self.rows(batch, a, b) for a, b in pairwise(edges)]

    def scaled(self, terms: Mapping[str, Tensor], part: BatchT, whole: BatchT) -> dict[str, Tensor]:
        """Scale the terms of a part so that their sums over parts equal the terms of the batch.

        Args:
            terms: terms of the part, each a mean over its items.
            part: part of the batch.
            whole: batch that the part was cut from.

        Returns:
            The scaled terms and their weighted sum "loss", with gradients.
        """
        total = self.counts(whole)
        shares = {name: n / max(total[name], 1.0) for name, n in self.counts(part).items()}
        scaled = {name: share * terms[name] for name, share in shares.items()}
        parts = [weight * scaled[name] for name, weight in self.weights.items() if weight]
        return {"loss": sum(parts[1:], start=parts[0]), **scaled}


def batch_size(batch: Batch) -> int:
    """Count the utterances of a batch."""
    return len(batch.tokens_BL)


def batch_rows(batch: Batch, start: int, stop: int) -> Batch:
    """Slice rows `start` to before `stop` of a batch, with padding cut to their longest."""
    symbols, transcript, tokens, words = (
        lengths[start:stop]
        for lengths in (
            batch.symbol_lengths_B,
            batch.transcript_lengths_B,
            batch.token_lengths_B,
            batch.word_lengths_B,
        )
    )

    def cut(padded: Tensor, lengths_B: Tensor) -> Tensor:
        return padded[start:stop, : int(lengths_B.max())]

    return Batch(
        symbols_BS=cut(batch.symbols_BS, symbols),
        symbol_word_BS=cut(batch.symbol_word_BS, symbols),
        symbol_lengths_B=symbols,
        transcript_BJ=cut(batch.transcript_BJ, transcript),
        transcript_lengths_B=transcript,
        tokens_BL=cut(batch.tokens_BL, tokens),
        history_BL=cut(batch.history_BL, tokens),
        token_lengths_B=tokens,
        reference_BE=batch.reference_BE[start:stop],
        emotion_B9=batch.emotion_B9[start:stop],
        spans_BW2=cut(batch.spans_BW2, words),
        vad_BW3=cut(batch.vad_BW3, words),
        word_lengths_B=words,
    )
