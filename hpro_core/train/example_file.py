"""`dataset/<split>.arrow`: the utterances of a split, memory-mapped by trainings.

The file holds the columns `examples.SCHEMA` of `dataset/<split>.parquet`, uncompressed, in record
batches of `examples.ROWS` utterances. The last batch has no rows. Its metadata hold the facts of
each corpus (`facts`), the SHA-256 of the batches before it, and size and footer hash of the table
that the file was made from.
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
from hpro_core.errors import HproError
from hpro_core.io import open_binary, parquet_errors, replacing, sha256_of_rest
from hpro_core.train.examples import ROWS, SCHEMA, MappedExamples
from hpro_core.train.facts import Facts, combine_facts, facts_by_corpus, facts_from_json

_FACTS, _SOURCE, _SUM = b"hpro.facts", b"hpro.source", b"hpro.sha256"


def split_files(root: Path) -> list[Path]:
    """Return the tables of train, dev and test in the results of a run."""
    return [root / "dataset" / f"{split}.parquet" for split in ("train", "dev", "test")]


def write_examples(table: Path) -> None:
    """Write the .arrow file beside a table atomically, with one record batch in memory at a time.

    Args:
        table: `dataset/<split>.parquet`; its content was checked when it was written.
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
            for corpus, facts in facts_by_corpus(batch).items():
                known[corpus] = combine_facts(
                    [known[corpus], facts] if corpus in known else [facts]
                )
        content = json.dumps({corpus: asdict(facts) for corpus, facts in known.items()})
        sink.flush()
        sums = f"{sink.tell()} {_sha256_of(partial, sink.tell())}"
        metadata = {_FACTS: content.encode(), _SOURCE: _source(table), _SUM: sums.encode()}
        file.write_batch(pa.RecordBatch.from_pylist([], SCHEMA), metadata)


def open_examples(table: Path) -> MappedExamples:
    """Memory-map the .arrow file beside a table.

    Args:
        table: `dataset/<split>.parquet`.

    Raises:
        HproError: the file is missing or broken, or was made from another table.
    """
    path = table.with_suffix(".arrow")
    again = "run `hpro dataset` again (`hpro gather-dataset` where there are shards)"
    with parquet_errors(path, again):
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        if file.schema != SCHEMA or not file.num_record_batches:
            raise ValueError("its columns are not those of this version")
        _, metadata = file.get_batch_with_custom_metadata(file.num_record_batches - 1)
        source, facts = metadata[_SOURCE], facts_from_json(metadata[_FACTS])
        size, _, expected = metadata[_SUM].decode().partition(" ")
        if _sha256_of(path, int(size)) != expected:
            raise ValueError("it was changed after it was written: its checksum differs")
        for number in range(file.num_record_batches):
            _check_batch(file.get_batch(number))
        if facts.keys() != set(file.read_all()["corpus"].unique().to_pylist()):
            raise ValueError("its facts belong to other corpora")
    if source != _source(table):
        raise HproError(f"{path} was not made from the {table.name} beside it: {again}")
    return MappedExamples(file, facts)


def _check_batch(batch: pa.RecordBatch) -> None:
    """Check that no value is missing, lists have consistent lengths and tokens are in range.

    Raises:
        ValueError: a check fails.
    """
    batch.validate(full=True)
    lengths = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        inner = column.flatten() if pa.types.is_list(column.type) else column
        if column.null_count or inner.null_count:
            raise ValueError(f"column {name} has a missing value")
        if inner is not column:
            lengths[name] = pc.list_value_length(column).to_numpy().astype(np.int64)
    words = lengths["word_start_s"]
    for name, expected in (
        ("word_end_s", words), ("word_vad", len(VAD) * words), ("emotion", len(EMOTIONS)),
        ("symbol_word", lengths["symbols"]),
    ):  # fmt: skip
        if (lengths[name] != expected).any():
            raise ValueError(f"column {name} has lists of the wrong length")
    tokens = batch.column("tokens").flatten().to_numpy()
    if ((tokens < 0) | (tokens >= N_SPEECH_TOKENS)).any():
        raise ValueError(f"a speech token is outside 0..{N_SPEECH_TOKENS - 1}")


def _batches(table: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table in record batches of ROWS rows."""
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
    """Compute the SHA-256 of the first `n_bytes` bytes of a file."""
    with path.open("rb") as file:
        return sha256_of_rest(file, n_bytes)


def _source(table: Path) -> bytes:
    """Identify a Parquet table by its size and the SHA-256 of its footer, which has statistics."""
    with parquet_errors(table), open_binary(table) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(-8, os.SEEK_END)
        file.seek(-8 - int.from_bytes(file.read(4), "little"), os.SEEK_END)
        return f"{size} {hashlib.sha256(file.read()).hexdigest()}".encode()
