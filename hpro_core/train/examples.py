"""Utterances for training: in memory, or memory-mapped from the .arrow file of a split.

Functions take any sequence of `Example`. For `MappedExamples` they read lengths, speakers and ids
from the columns, so that an `Example` is built only when a batch needs it.

Letters: N utterance, S text symbol, J transcript position, L speech token, W word, E embedding.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpro_core.constants import TOKEN_RATE_HZ, VAD

if TYPE_CHECKING:
    from hpro_core.train.facts import Facts

ROWS = 1024
"""Utterances per record batch of the file; the last batch with rows may have fewer."""

SCHEMA = pa.schema(
    {
        **dict.fromkeys(("utt_id", "corpus", "speaker", "text", "words"), pa.string()),
        "symbols": pa.list_(pa.int32()),
        "symbol_word": pa.list_(pa.int16()),
        "transcript": pa.list_(pa.int32()),
        "tokens": pa.list_(pa.int16()),
        "speaker_embedding": pa.list_(pa.float32()),
        "emotion": pa.list_(pa.float32()),
        "word_start_s": pa.list_(pa.float64()),
        "word_end_s": pa.list_(pa.float64()),
        "word_vad": pa.list_(pa.float32()),
    }
)
"""Columns of the file: the columns of the DATASET table that an `Example` needs."""


@dataclass(frozen=True)
class Example:
    """One utterance of the dataset, without audio."""

    utt_id: str
    corpus: str
    speaker: str
    text: str
    words: tuple[str, ...]
    symbols: np.ndarray  # int64 (S,), text input of the policy: phones or its own text tokens
    symbol_word: np.ndarray  # int64 (S,), the word that each phone belongs to; zeros without phones
    transcript: np.ndarray  # int64 (J,), targets of the codec's text decoder with begin and end
    tokens: np.ndarray  # int64 (L,), speech tokens at 25 Hz
    speaker_embedding: np.ndarray  # float32 (E,), of this utterance's own audio
    emotion: np.ndarray  # float32 (9,), posterior of the teacher, sums to one
    spans_s: np.ndarray  # float64 (W, 2), start and end of each word in seconds
    vad: np.ndarray  # float32 (W, 3), valence, arousal, dominance of each word in [0, 1]


def spans_to_frames(
    spans_s: np.ndarray, n_frames: int | np.ndarray, rounding: str = "nearest"
) -> np.ndarray:
    """Convert word times to token indices.

    Args:
        spans_s: start and end of each word in seconds, (W, 2).
        n_frames: tokens in the utterance, or (W,) tokens in the utterance of each word; spans are
            clipped to it.
        rounding: "nearest" (ours), or "truncate" as in the released codec, whose weights were
            trained with `int(t * 25)`. For 1.16 s "nearest" gives 29 and "truncate" 28.

    Returns:
        int64 (W, 2), first and one-past-last token. If both edges of a short word round to the same
        token, the word gets the token that begins there, which may also belong to its neighbour
        ("nearest"), or an empty span ("truncate", as released).
    """
    frames = np.asarray(spans_s, dtype=np.float64).reshape(-1, 2) * TOKEN_RATE_HZ
    n = np.asarray(n_frames)
    if rounding == "truncate":
        return np.clip(frames.astype(np.int64), 0, n[..., None])
    # 1e-6 makes a product just below a half, because of rounding, round up as the exact value does.
    edges = np.floor(frames + 0.5 + 1e-6).astype(np.int64)
    starts = np.clip(edges[:, 0], 0, n - 1)
    ends = np.clip(edges[:, 1], starts + 1, n)
    return np.stack([starts, ends], axis=1)


class MappedExamples(Sequence[Example]):
    """Utterances of a memory-mapped file, each read on access.

    `train.example_file` writes and opens the files. Slices and selections share the file.
    """

    def __init__(
        self,
        file: pa.RecordBatchFileReader,
        facts: "Mapping[str, Facts] | None",
        rows: np.ndarray | None = None,
    ):
        """
        Args:
            file: record batches of SCHEMA with ROWS rows each, then one without rows.
            facts: facts by corpus if this sequence holds whole corpora, else None.
            rows: int64 positions in the file, in the order of this sequence; None: all rows.
        """
        self._file = file
        self._rows = rows
        self._size = len(self._whole("utt_id")) if rows is None else len(rows)
        self.facts = facts

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "MappedExamples": ...
    def __getitem__(self, index: int | slice) -> "Example | MappedExamples":
        if isinstance(index, slice):
            rows = np.arange(self._size) if self._rows is None else self._rows
            return MappedExamples(self._file, None, rows[index])
        position = range(self._size)[index]
        batch, row = divmod(position if self._rows is None else int(self._rows[position]), ROWS)
        return _example(self._file.get_batch(batch), row)

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a string column, in the order of this sequence."""
        column = self._whole(name)
        return column if self._rows is None else column.take(pa.array(self._rows))

    def lengths(self, name: str) -> np.ndarray:
        """Compute the length of each list in a column, int64 (N,), without reading the lists."""
        lengths = pc.list_value_length(self._whole(name)).to_numpy().astype(np.int64)
        return lengths if self._rows is None else lengths[self._rows]

    def without(self, corpora: Collection[str]) -> "MappedExamples":
        """Select the utterances of all corpora but these."""
        left_out = pc.is_in(self.column("corpus"), pa.array(list(corpora), pa.string())).to_numpy()
        kept = np.flatnonzero(~left_out)
        rows = kept if self._rows is None else self._rows[kept]
        facts = self.facts and {n: known for n, known in self.facts.items() if n not in corpora}
        return MappedExamples(self._file, facts, rows)

    def _whole(self, name: str) -> pa.ChunkedArray:
        return self._file.read_all()[name]


def _example(batch: pa.RecordBatch, row: int) -> Example:
    text = {name: batch.column(name)[row].as_py() for name in SCHEMA.names[:5]}
    lists = {
        name: batch.column(name)[row].values.to_numpy(zero_copy_only=True)
        for name in SCHEMA.names[5:]
    }
    return Example(
        utt_id=text["utt_id"],
        corpus=text["corpus"],
        speaker=text["speaker"],
        text=text["text"],
        words=tuple(text["words"].split()),
        symbols=lists["symbols"].astype(np.int64),
        symbol_word=lists["symbol_word"].astype(np.int64),
        transcript=lists["transcript"].astype(np.int64),
        tokens=lists["tokens"].astype(np.int64),
        speaker_embedding=lists["speaker_embedding"].copy(),
        emotion=lists["emotion"].copy(),
        spans_s=np.stack([lists["word_start_s"], lists["word_end_s"]], axis=1),
        vad=lists["word_vad"].copy().reshape(-1, len(VAD)),
    )


def token_counts(examples: Sequence[Example]) -> np.ndarray:
    """Count the speech tokens of each utterance, int64 (N,)."""
    if isinstance(examples, MappedExamples):
        return examples.lengths("tokens")
    return np.array([len(e.tokens) for e in examples], dtype=np.int64)


def utt_ids(examples: Sequence[Example]) -> list[str]:
    """List the utt_id of each utterance."""
    if isinstance(examples, MappedExamples):
        return examples.column("utt_id").to_pylist()
    return [e.utt_id for e in examples]


def positions(examples: Sequence[Example], wanted: Sequence[str]) -> dict[str, int]:
    """Map each wanted utt_id to its position in the sequence; missing ones are left out."""
    if isinstance(examples, MappedExamples):
        column = examples.column("utt_id")
        found = np.flatnonzero(pc.is_in(column, pa.array(wanted, pa.string())).to_numpy())
        return {column[int(i)].as_py(): int(i) for i in found}
    among = set(wanted)
    return {e.utt_id: i for i, e in enumerate(examples) if e.utt_id in among}


class SpeakerIndex:
    """Index from speakers, identified by corpus and name, to positions in a sequence."""

    def __init__(self, examples: Sequence[Example]):
        self._speaker_N, self._names = _speakers(examples)
        self._order_N = np.argsort(self._speaker_N, kind="stable")
        self.sizes = np.bincount(self._speaker_N, minlength=len(self._names))
        self._ends = np.cumsum(self.sizes)

    def members(self, corpus: str, speaker: str) -> np.ndarray:
        """Return the positions of a speaker's utterances, int64, ascending; empty if unknown."""
        number = self._names.get((corpus, speaker))
        return self._order_N[:0] if number is None else self._of(number)

    def of_same_speaker(self, position: int) -> np.ndarray:
        """Return the positions of all utterances of this utterance's speaker, itself included."""
        return self._of(int(self._speaker_N[position]))

    def counts(self, other: "SpeakerIndex") -> np.ndarray:
        """Count each utterance's speaker's utterances in this and another index, int64 (N,)."""
        there = [len(other.members(*name)) for name in self._names]
        return (self.sizes + np.array(there, dtype=np.int64))[self._speaker_N]

    def _of(self, number: int) -> np.ndarray:
        end = self._ends[number]
        return self._order_N[end - self.sizes[number] : end]


def _speakers(examples: Sequence[Example]) -> tuple[np.ndarray, dict[tuple[str, str], int]]:
    """Return the speaker number of each utterance, int64 (N,), and the number of each speaker."""
    names: dict[tuple[str, str], int] = {}
    if not isinstance(examples, MappedExamples):
        numbers = [names.setdefault((e.corpus, e.speaker), len(names)) for e in examples]
        return np.array(numbers, dtype=np.int64), names
    corpora, corpus_N = _encoded(examples.column("corpus"))
    speakers, speaker_N = _encoded(examples.column("speaker"))
    both_N = corpus_N * max(1, len(speakers)) + speaker_N
    found, number_N = np.unique(both_N, return_inverse=True)
    for pair in found.tolist():
        corpus, speaker = divmod(pair, len(speakers))
        names[corpora[corpus], speakers[speaker]] = len(names)
    return number_N, names


def _encoded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Return the distinct names of a column and the name index of each row, int64 (N,)."""
    chunks = column.dictionary_encode().unify_dictionaries().chunks
    numbers = [chunk.indices.to_numpy().astype(np.int64) for chunk in chunks]
    names = chunks[0].dictionary.to_pylist() if chunks else []
    return names, np.concatenate([np.empty(0, dtype=np.int64), *numbers])
