"""Summary facts of a corpus for checks before training: totals, extremes and their utterances.

The `dataset` stage computes the facts once and writes them into the .arrow file. A training checks
its model against them in constant time, whatever the size of the corpus.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from hpro_core.text.phones import WHISPER_SPECIAL_TOKENS
from hpro_core.train.examples import Example, MappedExamples, spans_to_frames

ROUNDINGS = ("nearest", "truncate")
"""Rounding modes of `spans_to_frames`."""


@dataclass(frozen=True)
class Extreme:
    """A value and the utterance that has it."""

    value: int
    utt_id: str


@dataclass(frozen=True)
class Facts:
    """Facts of a set of utterances, whatever their order; ties go to the lowest utt_id."""

    utterances: int
    symbols: int  # total number of policy text symbols
    tokens: int  # total number of speech tokens
    highest_symbol: Extreme  # highest symbol id
    phones: str | None  # an utterance whose symbols have word indices (phones), if there is one
    highest_transcript: Extreme  # highest transcript id
    lowest_transcript: Extreme  # the lowest of the highest transcript ids of each utterance
    longest_transcript: Extreme  # length with begin and end symbols
    unmarked: str | None  # an utterance that lacks one of WHISPER_SPECIAL_TOKENS
    uncovered: dict[str, Extreme | None]  # for each of ROUNDINGS, number of words of an utterance
    # whose words cover no token


def facts_from_json(text: str | bytes) -> dict[str, Facts]:
    """Parse the facts of each corpus from JSON of their `dataclasses.asdict`.

    Raises:
        ValueError: the JSON has another structure.
    """
    found = TypeAdapter(dict[str, Facts]).validate_json(text, strict=True)
    for corpus, facts in found.items():
        if facts.uncovered.keys() != set(ROUNDINGS):
            raise ValueError(f"the facts of {corpus!r} were written by another version")
    return found


def facts_of(examples: Sequence[Example]) -> Facts:
    """Compute the facts of a sequence, or combine the stored ones of `MappedExamples`.

    Raises:
        ValueError: the sequence is empty.
    """
    if isinstance(examples, MappedExamples) and examples.facts is not None:
        return combine_facts(examples.facts.values())
    return _facts(_of_examples(list(examples)))


def facts_by_corpus(batch: pa.RecordBatch) -> dict[str, Facts]:
    """Compute the facts of each corpus in a record batch of `examples.SCHEMA`."""
    names = batch.column("corpus")
    return {
        corpus: _facts(_of_batch(batch.filter(pc.equal(names, corpus))))
        for corpus in names.unique().to_pylist()
    }


def combine_facts(parts: Iterable[Facts]) -> Facts:
    """Combine the facts of several disjoint sets of utterances.

    Raises:
        ValueError: `parts` is empty.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("there are no facts of an empty set of utterances")
    return Facts(
        utterances=sum(part.utterances for part in parts),
        symbols=sum(part.symbols for part in parts),
        tokens=sum(part.tokens for part in parts),
        highest_symbol=_highest(part.highest_symbol for part in parts),
        phones=_first(part.phones for part in parts),
        highest_transcript=_highest(part.highest_transcript for part in parts),
        lowest_transcript=min(
            (part.lowest_transcript for part in parts), key=lambda item: (item.value, item.utt_id)
        ),
        longest_transcript=_highest(part.longest_transcript for part in parts),
        unmarked=_first(part.unmarked for part in parts),
        uncovered={
            rounding: min(
                (found for part in parts if (found := part.uncovered[rounding])),
                key=lambda item: item.utt_id,
                default=None,
            )
            for rounding in ROUNDINGS
        },
    )


def _highest(found: Iterable[Extreme]) -> Extreme:
    return min(found, key=lambda item: (-item.value, item.utt_id))


def _first(names: Iterable[str | None]) -> str | None:
    return min((name for name in names if name is not None), default=None)


@dataclass(frozen=True)
class _Lists:
    """The lists of all utterances, concatenated."""

    values: np.ndarray  # (sum of lengths, ...)
    lengths: np.ndarray  # int64 (N,)

    def highest(self) -> np.ndarray:
        """Compute the maximum of each list, int64 (N,); -1 for an empty list."""
        found = np.full(len(self.lengths), -1, dtype=np.int64)
        np.maximum.at(found, self.owners(), self.values)
        return found

    def any(self, true: np.ndarray) -> np.ndarray:
        """Reduce a bool mask of the values to bool (N,): true if any value of a list is true."""
        return np.bincount(self.owners()[true], minlength=len(self.lengths)) > 0

    def owners(self) -> np.ndarray:
        """Return the utterance position of each value, int64."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@dataclass(frozen=True)
class _Columns:
    utt_ids: list[str]
    symbols: _Lists
    symbol_word: _Lists
    transcript: _Lists
    spans_s: _Lists  # (W, 2)
    n_tokens: np.ndarray  # int64 (N,)


def _of_batch(batch: pa.RecordBatch) -> _Columns:
    def lists(name: str) -> _Lists:
        column = batch.column(name)
        return _Lists(column.flatten().to_numpy(), pc.list_value_length(column).to_numpy())

    starts, ends = lists("word_start_s"), lists("word_end_s")
    return _Columns(
        utt_ids=batch.column("utt_id").to_pylist(),
        symbols=lists("symbols"),
        symbol_word=lists("symbol_word"),
        transcript=lists("transcript"),
        spans_s=_Lists(np.stack([starts.values, ends.values], axis=1), starts.lengths),
        n_tokens=pc.list_value_length(batch.column("tokens")).to_numpy().astype(np.int64),
    )


def _of_examples(examples: list[Example]) -> _Columns:
    def lists(rows: list[np.ndarray]) -> _Lists:
        return _Lists(np.concatenate(rows), np.array([len(row) for row in rows]))

    return _Columns(
        utt_ids=[e.utt_id for e in examples],
        symbols=lists([e.symbols for e in examples]),
        symbol_word=lists([e.symbol_word for e in examples]),
        transcript=lists([e.transcript for e in examples]),
        spans_s=lists([e.spans_s for e in examples]),
        n_tokens=np.array([len(e.tokens) for e in examples]),
    )


def _facts(columns: _Columns) -> Facts:
    ids, transcript = columns.utt_ids, columns.transcript
    symbol_N, transcript_N = columns.symbols.highest(), transcript.highest()
    marks = [transcript.any(transcript.values == mark) for mark in WHISPER_SPECIAL_TOKENS]

    def one(true_N: np.ndarray) -> int | None:
        return min(np.flatnonzero(true_N).tolist(), key=lambda i: ids[i], default=None)

    def named(true_N: np.ndarray) -> str | None:
        position = one(true_N)
        return None if position is None else ids[position]

    def value_of(values_N: np.ndarray, true_N: np.ndarray) -> Extreme | None:
        position = one(true_N)
        return None if position is None else Extreme(int(values_N[position]), ids[position])

    def extreme(values_N: np.ndarray, value: np.integer) -> Extreme:
        found = value_of(values_N, values_N == value)
        assert found is not None
        return found

    def uncovered(rounding: str) -> Extreme | None:
        spans = columns.spans_s
        frames = spans_to_frames(spans.values, columns.n_tokens[spans.owners()], rounding)
        return value_of(spans.lengths, ~spans.any(frames[:, 1] > frames[:, 0]))

    return Facts(
        utterances=len(ids),
        symbols=int(columns.symbols.lengths.sum()),
        tokens=int(columns.n_tokens.sum()),
        highest_symbol=extreme(symbol_N, symbol_N.max()),
        phones=named(columns.symbol_word.any(columns.symbol_word.values != 0)),
        highest_transcript=extreme(transcript_N, transcript_N.max()),
        lowest_transcript=extreme(transcript_N, transcript_N.min()),
        longest_transcript=extreme(transcript.lengths, transcript.lengths.max()),
        unmarked=named(~np.logical_and.reduce(marks)),
        uncovered={rounding: uncovered(rounding) for rounding in ROUNDINGS},
    )
