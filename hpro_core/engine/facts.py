"""What checks need to know of all utterances of a corpus: totals, extremes, and whose they are.

The `dataset` stage finds the facts once and writes them into the file that trainings map. A
training compares them with its model, whatever the size of the corpus.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpro_core.engine.examples import Example, MappedExamples, spans_to_frames
from hpro_core.text import WHISPER_MARKS

ROUNDINGS = ("nearest", "truncate")
"""Ways to turn word times into tokens (`spans_to_frames`)."""


@dataclass(frozen=True)
class Of:
    """A number and the utterance that it is of."""

    value: int
    utt_id: str


@dataclass(frozen=True)
class Facts:
    """Of utterances in an order; of several with the same number the first is named."""

    utterances: int
    symbols: int  # what the policy reads, in all
    tokens: int  # speech tokens, in all
    highest_symbol: Of  # the highest id
    phones: str | None  # the first utterance whose symbols know their words, if there is one
    highest_transcript: Of  # the highest id
    lowest_transcript: Of  # the lowest of the highest ids of each utterance
    longest_transcript: Of  # length, begin and end counted
    unmarked: str | None  # the first utterance that lacks one of WHISPER_MARKS
    uncovered: dict[str, Of | None]  # for each of ROUNDINGS the first whose words cover no token,
    # and how many words it has

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Facts":
        """The facts that `dataclasses.asdict` was given."""
        values = dict(content)
        for name, value in content.items():
            if isinstance(value, Mapping) and name != "uncovered":
                values[name] = Of(**value)
        values["uncovered"] = {n: found and Of(**found) for n, found in values["uncovered"].items()}
        return cls(**values)


def facts_of(examples: Sequence[Example]) -> Facts:
    """The facts of all utterances of a sequence.

    Raises:
        ValueError: it has none.
    """
    if isinstance(examples, MappedExamples) and examples.facts is not None:
        return joined(examples.facts.values())
    return _facts(_of_examples(list(examples)))


def by_corpus(batch: pa.RecordBatch) -> dict[str, Facts]:
    """The facts of each corpus in a record batch of `examples.SCHEMA`."""
    names = batch.column("corpus")
    return {
        corpus: _facts(_of_batch(batch.filter(pc.equal(names, corpus))))
        for corpus in names.unique().to_pylist()
    }


def joined(parts: Iterable[Facts]) -> Facts:
    """The facts of the utterances of several, one after another.

    Raises:
        ValueError: there are none.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("no utterance has no facts")
    return Facts(
        utterances=sum(part.utterances for part in parts),
        symbols=sum(part.symbols for part in parts),
        tokens=sum(part.tokens for part in parts),
        highest_symbol=_highest(part.highest_symbol for part in parts),
        phones=_first(part.phones for part in parts),
        highest_transcript=_highest(part.highest_transcript for part in parts),
        lowest_transcript=min((part.lowest_transcript for part in parts), key=lambda of: of.value),
        longest_transcript=_highest(part.longest_transcript for part in parts),
        unmarked=_first(part.unmarked for part in parts),
        uncovered={
            rounding: next((f for part in parts if (f := part.uncovered[rounding])), None)
            for rounding in ROUNDINGS
        },
    )


def _highest(found: Iterable[Of]) -> Of:
    return max(found, key=lambda of: of.value)  # the first of equals


def _first(names: Iterable[str | None]) -> str | None:
    return next((name for name in names if name is not None), None)


@dataclass(frozen=True)
class _Lists:
    """A list of each utterance, one after another."""

    values: np.ndarray  # (sum of lengths, ...)
    lengths: np.ndarray  # int64 (N,)

    def highest(self) -> np.ndarray:
        """Of each utterance, int64 (N,); -1 of an empty list."""
        found = np.full(len(self.lengths), -1, dtype=np.int64)
        np.maximum.at(found, self.owners(), self.values)
        return found

    def any(self, true: np.ndarray) -> np.ndarray:
        """Bool (N,): whether a condition on the values holds for one of each utterance's."""
        return np.bincount(self.owners()[true], minlength=len(self.lengths)) > 0

    def owners(self) -> np.ndarray:
        """Of each value, int64: the position of its utterance."""
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
    marks = [transcript.any(transcript.values == mark) for mark in WHISPER_MARKS]

    def of(values_N: np.ndarray, position: np.integer) -> Of:
        return Of(int(values_N[position]), ids[position])

    def first(true_N: np.ndarray) -> str | None:
        return ids[true_N.argmax()] if true_N.any() else None

    def uncovered(rounding: str) -> Of | None:
        spans = columns.spans_s
        frames = spans_to_frames(spans.values, columns.n_tokens[spans.owners()], rounding)
        bare_N = ~spans.any(frames[:, 1] > frames[:, 0])
        return of(spans.lengths, bare_N.argmax()) if bare_N.any() else None

    return Facts(
        utterances=len(ids),
        symbols=int(columns.symbols.lengths.sum()),
        tokens=int(columns.n_tokens.sum()),
        highest_symbol=of(symbol_N, symbol_N.argmax()),
        phones=first(columns.symbol_word.any(columns.symbol_word.values != 0)),
        highest_transcript=of(transcript_N, transcript_N.argmax()),
        lowest_transcript=of(transcript_N, transcript_N.argmin()),
        longest_transcript=of(transcript.lengths, transcript.lengths.argmax()),
        unmarked=first(~np.logical_and.reduce(marks)),
        uncovered={rounding: uncovered(rounding) for rounding in ROUNDINGS},
    )
