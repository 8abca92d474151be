"""Shards: parts of the corpora, each the work of one job from alignment to the dataset.

A shard holds whole speakers: z-scores of the weak teacher and MFA's adaptation are a speaker's.
With one shard, the default, a stage reads and writes `<stage>/<table>`. With more, the job of
shard 3 reads and writes `<stage>/shards/00003/<table>`, and `hpro gather` then writes the shards of
a stage one after another into the same `<stage>/<table>`, with one of them in memory at a time.
"""

import heapq
import os
import shutil
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet as pq

from hpro_core.errors import HproError
from hpro_core.tables import (
    DATASET,
    EMOTION_POSTERIORS,
    REJECTED,
    TRAINING_SPLITS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    check_rejected,
    check_split,
    empty,
    read_table,
    write_table,
)

TABLES: dict[str, dict[str, pa.DataFrameSchema]] = {
    "align": {"words": WORDS, "rejected": REJECTED},
    "label": {"emotion_posteriors": EMOTION_POSTERIORS, "word_vad": WORD_VAD},
    "dataset": {**dict.fromkeys(TRAINING_SPLITS, DATASET), "rejected": REJECTED},
}
"""What stages make of a shard and others read whole; of speech tokens only the dataset reads."""


def folder_of(root: Path, stage: str, shard: int | None) -> Path:
    """Where a stage keeps the tables of a shard; of everything, without one."""
    return root / stage if shard is None else root / stage / "shards" / f"{shard:05d}"


def write(root: Path, utterances: pd.DataFrame, n_shards: int) -> None:
    """Write corpus/shards/<k>/utterances.parquet; with one shard there is nothing to write.

    Args:
        root: results folder of the run.
        utterances: all of the run, an UTTERANCES table.
        n_shards: at least one.

    Raises:
        HproError: there are fewer speakers than shards.
    """
    shutil.rmtree(root / "corpus" / "shards", ignore_errors=True)
    if n_shards == 1:
        return
    parts = cut(utterances, n_shards)
    for shard, part in enumerate(parts):
        write_table(part, folder_of(root, "corpus", shard) / "utterances.parquet", UTTERANCES)
    sizes = sorted(map(len, parts))
    print(f"{n_shards} shards of {sizes[0]} to {sizes[-1]} utterances")


def cut(utterances: pd.DataFrame, n_shards: int) -> list[pd.DataFrame]:
    """Parts of whole speakers that last about as long: the longest speaker goes to the emptiest.

    Args:
        utterances: an UTTERANCES table.
        n_shards: at least one.

    Returns:
        `n_shards` tables, each in the order of the whole.

    Raises:
        HproError: there are fewer speakers than shards.
    """
    speakers = utterances.groupby(["corpus", "speaker"], sort=True)
    if speakers.ngroups < n_shards:
        raise HproError(
            f"shards: {n_shards}, but the corpora have {speakers.ngroups} speakers, and a shard "
            "holds whole speakers: set fewer shards"
        )
    seconds = speakers["duration_s"].sum().to_numpy()
    emptiest = [(0.0, shard) for shard in range(n_shards)]
    shard_of = {}
    for speaker in sorted(range(len(seconds)), key=lambda s: (-seconds[s], s)):
        held_s, shard = heapq.heappop(emptiest)
        shard_of[speaker] = shard
        heapq.heappush(emptiest, (held_s + seconds[speaker], shard))
    shards = speakers.ngroup().map(shard_of)
    return [utterances[shards == shard] for shard in range(n_shards)]


def gather(root: Path, stage: str, n_shards: int, max_rejected_share: float = 1.0) -> None:
    """Write the tables of all shards of a stage into one table each.

    Args:
        root: results folder of the run.
        stage: a key of `TABLES`.
        n_shards: of the run.
        max_rejected_share: of the utterances that entered the stage, where it may reject any.

    Raises:
        HproError: no such stage, a shard is missing or breaks its schema, more is rejected than the
            limit, or a split of the dataset has no utterance.
    """
    if stage not in TABLES:
        raise HproError(f"{stage!r} is not gathered; these are: {', '.join(TABLES)}")
    held = {
        name: _joined(root, stage, name, schema, n_shards) for name, schema in TABLES[stage].items()
    }
    print(f"{stage}: " + ", ".join(f"{n} utterances in {name}" for name, n in held.items()))
    if "rejected" in held:
        lost = read_table(root / stage / "rejected.parquet", REJECTED)[["utt_id", "reason"]]
        reasons = lost.itertuples(index=False, name=None)
        check_rejected(reasons, stage, sum(held.values()), max_rejected_share)
    for split in held.keys() & set(TRAINING_SPLITS):
        check_split(root / stage / f"{split}.parquet", held[split])


def _joined(root: Path, stage: str, name: str, schema: pa.DataFrameSchema, n_shards: int) -> int:
    """Write a table of all shards, all of it or nothing; how many utterances it has."""
    path = root / stage / f"{name}.parquet"
    partial = path.with_name(f".{path.name}.partial")
    writer, n_utterances = None, 0
    for shard in range(n_shards):
        part = read_table(folder_of(root, stage, shard) / f"{name}.parquet", schema)
        if part.empty:  # its columns have no types
            continue
        n_utterances += part["utt_id"].nunique()
        rows = pyarrow.Table.from_pandas(part, preserve_index=False)
        writer = writer or pq.ParquetWriter(partial, rows.schema)
        writer.write_table(rows.cast(writer.schema))
    if writer is None:
        write_table(empty(schema), path, schema)
        return 0
    writer.close()
    os.replace(partial, path)
    return n_utterances
