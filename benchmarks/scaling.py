"""How opening a dataset and its first batch grow with its utterances (docs/scaling.md).

The rows of a split that was made are repeated under other names and speakers:
`python benchmarks/scaling.py results/embedded/dataset/train.parquet --rows 100000`.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from hpro_core.train.batching import Sampler
from hpro_core.train.example_file import open_examples, write_examples

ROWS_OF_A_SPEAKER = 200


def repeated(source: Path, n_rows: int, target: Path) -> None:
    """Write a table of `n_rows` utterances out of the rows of another one."""
    rows = pq.read_table(source).replace_schema_metadata(None)
    utt_id, speaker = rows.column_names.index("utt_id"), rows.column_names.index("speaker")
    with pq.ParquetWriter(target, rows.schema) as writer:
        for start in range(0, n_rows, len(rows)):
            names = np.arange(start, min(start + len(rows), n_rows))
            part = rows.slice(0, len(names))
            ids = pa.array([f"made_{k:09d}" for k in names], part.schema.field(utt_id).type)
            of = pa.array(
                [f"s{k // ROWS_OF_A_SPEAKER}" for k in names], part.schema.field(speaker).type
            )
            part = part.set_column(utt_id, part.schema.field(utt_id), ids)
            writer.write_table(part.set_column(speaker, part.schema.field(speaker), of))


def measured(table: Path) -> dict[str, float]:
    """Seconds of CPU of each step, and memory that this process holds after them."""
    seconds: dict[str, float] = {}
    held = psutil.Process().memory_info().rss
    clock = time.process_time()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.process_time()
        seconds[name], clock = now - clock, now

    write_examples(table)
    lap("write the mapped file, s")
    examples = open_examples(table)
    lap("open it with its checks, s")
    Sampler(examples, 16, seed=0).batch_at(1)
    lap("first batch, s")
    seconds["memory held, MB"] = (psutil.Process().memory_info().rss - held) / 2**20
    seconds["mapped file, MB"] = table.with_suffix(".arrow").stat().st_size / 2**20
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="dataset/<split>.parquet of a run")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "train.parquet")
        repeated(options.table, options.rows, table)
        for name, value in measured(table).items():
            print(f"{name}: {value:.2f}")


if __name__ == "__main__":
    main()
