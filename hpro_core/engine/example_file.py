"""`dataset/<split>.arrow`: the utterances of a split as trainings map them into memory.

It holds what `dataset/<split>.parquet` holds, uncompressed, in record batches of
`examples.ROWS` utterances. The last batch has no utterance; its metadata have the facts of each
corpus (`facts`), the SHA-256 of the batches before it, and what tells that the table beside the
file is the one that it was made of.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpro_core.constants import EMOTIONS, N_SPEECH_TOKENS, VAD
from hpro_core.engine.examples import ROWS, SCHEMA, MappedExamples
from hpro_core.engine.facts import Facts, by_corpus, facts_from_json, joined
from hpro_core.errors import HproError
from hpro_core.io import opened, parquet_errors, replacing, sha256_of_rest

_FACTS, _SOURCE, _SUM = b"hpro.facts", b"hpro.source", b"hpro.sha256"


def write_examples(table: Path) -> None:
    """Write the file beside a table, all of it or nothing, with one record batch in memory.

    Args:
        table: `dataset/<split>.parquet`, checked when it was written.
    """
    path = table.with_suffix(".arrow")
    known: dict[str, Facts] = {}
    with (
        replacing(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as file,
    ):
        for batch in _batches(table):
            file.write_batch(batch)
            for corpus, facts in by_corpus(batch).items():
                known[corpus] = joined([known[corpus], facts] if corpus in known else [facts])
        content = json.dumps({corpus: asdict(facts) for corpus, facts in known.items()})
        sink.flush()
        sums = f"{sink.tell()} {_sha256_of(partial, sink.tell())}"
        metadata = {_FACTS: content.encode(), _SOURCE: _source(table), _SUM: sums.encode()}
        file.write_batch(pa.RecordBatch.from_pylist([], SCHEMA), metadata)


def open_examples(table: Path) -> MappedExamples:
    """Map the file beside a table.

    Args:
        table: `dataset/<split>.parquet`.

    Raises:
        HproError: the file is missing or broken, or is of another table.
    """
    path = table.with_suffix(".arrow")
    again = "run `hpro dataset` again (`hpro gather-dataset` where there are shards)"
    with parquet_errors(path, again):
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        if file.schema != SCHEMA or not file.num_record_batches:
            raise ValueError("other columns than this version writes")
        _, metadata = file.get_batch_with_custom_metadata(file.num_record_batches - 1)
        source, facts = metadata[_SOURCE], facts_from_json(metadata[_FACTS])
        size, _, expected = metadata[_SUM].decode().partition(" ")
        if _sha256_of(path, int(size)) != expected:
            raise ValueError("changed after it was written: its checksum differs")
        for number in range(file.num_record_batches):
            _check_batch(file.get_batch(number))
        if facts.keys() != set(file.read_all()["corpus"].unique().to_pylist()):
            raise ValueError("the facts are of other corpora")
    if source != _source(table):
        raise HproError(f"{path} was made of another {table.name} than the one beside it: {again}")
    return MappedExamples(file, facts)


def _check_batch(batch: pa.RecordBatch) -> None:
    """What an `Example` is made of is all there, and its lists are as long as they should be.

    Raises:
        ValueError: it is not.
    """
    batch.validate(full=True)
    lengths = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        inner = column.flatten() if pa.types.is_list(column.type) else column
        if column.null_count or inner.null_count:
            raise ValueError(f"column {name} lacks a value")
        if inner is not column:
            lengths[name] = pc.list_value_length(column).to_numpy().astype(np.int64)
    words = lengths["word_start_s"]
    for name, expected in (
        ("word_end_s", words), ("word_vad", len(VAD) * words), ("emotion", len(EMOTIONS)),
        ("symbol_word", lengths["symbols"]),
    ):  # fmt: skip
        if (lengths[name] != expected).any():
            raise ValueError(f"column {name} has lists of another length")
    tokens = batch.column("tokens").flatten().to_numpy()
    if ((tokens < 0) | (tokens >= N_SPEECH_TOKENS)).any():
        raise ValueError(f"a speech token is outside 0..{N_SPEECH_TOKENS - 1}")


def _batches(table: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a table, ROWS of them at a time."""
    rest = SCHEMA.empty_table()
    for batch in pq.ParquetFile(table).iter_batches(8 * ROWS, columns=SCHEMA.names):
        rows = pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)
        rest = pa.concat_tables([rest, rows])
        whole = len(rest) - len(rest) % ROWS
        for start in range(0, whole, ROWS):
            yield _one(rest.slice(start, ROWS))
        rest = rest.slice(whole)
    if len(rest):
        yield _one(rest)


def _one(rows: pa.Table) -> pa.RecordBatch:
    return rows.combine_chunks().to_batches()[0]


def _sha256_of(path: Path, n_bytes: int) -> str:
    """Of the first bytes of a file."""
    with path.open("rb") as file:
        return sha256_of_rest(file, n_bytes)


def _source(table: Path) -> bytes:
    """What tells a table from another: its size and its footer, where Parquet has statistics."""
    with parquet_errors(table), opened(table) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(-8, os.SEEK_END)
        file.seek(-8 - int.from_bytes(file.read(4), "little"), os.SEEK_END)
        return f"{size} {hashlib.sha256(file.read()).hexdigest()}".encode()
