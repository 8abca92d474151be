"""Shards: parts of the corpora that separate jobs process, from alignment to the dataset.

A shard has whole speakers: z-scores of the weak teacher and MFA's adaptation are per speaker. With
one shard, the default, a stage reads and writes `<stage>/<table>`. With more, the job of shard 3
reads and writes `<stage>/shards/00003/<table>`. `hpro gather` (for the dataset
`hpro gather-dataset`) then concatenates the shards of a stage into `<stage>/<table>`, with one
shard in memory at a time.
If the number of shards changes, `write` removes the output of the former jobs, and `gather` refuses
tables with other utterances than the shard's.
"""

import heapq
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet as pq

from hpro_core.errors import HproError
from hpro_core.io import replacing
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
    count_rows,
    distinct,
    empty,
    read_table,
    write_table,
)

TABLES: dict[str, dict[str, pa.DataFrameSchema]] = {
    "align": {"words": WORDS, "rejected": REJECTED},
    "label": {"emotion_posteriors": EMOTION_POSTERIORS, "word_vad": WORD_VAD},
    "dataset": {**dict.fromkeys(TRAINING_SPLITS, DATASET), "rejected": REJECTED},
}
"""Stage -> tables that `gather` concatenates. Speech tokens are read by the dataset stage only."""

OF_ONE_JOB = {
    "align": ("textgrids", "mfa.log", "alignment_analysis.csv", "mfa_work_*"),
    "label": (),
    "speech": ("speech_tokens.parquet",),
    "dataset": (),
}
"""Stage that works on shards -> outputs in `<stage>` that exist without shards only. `mfa_work_*`
is from killed jobs. MFA's trained model is not listed, since settings may name it."""


def folder_of(root: Path, stage: str, shard: int | None) -> Path:
    """Return the folder of a stage's tables for a shard, or for the whole corpus with None."""
    return root / stage if shard is None else root / stage / "shards" / f"{shard:05d}"


def remove(folder: Path, patterns: Iterable[str]) -> None:
    """Remove the files and folders in a folder whose names match one of the patterns.

    A folder into which a leftover process still writes may remain.
    """
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write(root: Path, utterances: pd.DataFrame, n_shards: int) -> None:
    """Write corpus/shards/<k>/utterances.parquet for each of several shards.

    Outputs of later stages for another number of shards are removed. One shard writes nothing.

    Raises:
        HproError: there are fewer speakers than shards.
    """
    remove(root / "corpus", ["shards"])
    if n_shards > 1:
        parts = assign_shards(utterances, n_shards)
        for shard, part in enumerate(parts):
            write_table(part, folder_of(root, "corpus", shard) / "utterances.parquet", UTTERANCES)
        sizes = sorted(map(len, parts))
        print(f"{n_shards} shards of {sizes[0]} to {sizes[-1]} utterances")
    _remove_stale(root, n_shards)


def _remove_stale(root: Path, n_shards: int) -> None:
    """Remove outputs that exist for another number of shards only."""
    own = {folder_of(root, "corpus", shard).name for shard in range(n_shards)}
    for stage, left in OF_ONE_JOB.items():
        if n_shards == 1:
            remove(root / stage, ["shards"])
        else:
            made = {path.name for path in (root / stage / "shards").glob("*")}
            remove(root / stage / "shards", made - own)
            remove(root / stage, left)


def assign_shards(utterances: pd.DataFrame, n_shards: int) -> list[pd.DataFrame]:
    """Split utterances into shards of whole speakers and similar duration.

    Speakers are assigned in order of decreasing duration, each to the shortest shard.

    Returns:
        `n_shards` UTTERANCES tables, each in the order of the whole.

    Raises:
        HproError: there are fewer speakers than shards.
    """
    speakers = utterances.groupby(["corpus", "speaker"], sort=True)
    if speakers.ngroups < n_shards:
        raise HproError(
            f"shards: {n_shards}, but the corpora have {speakers.ngroups} speakers, and a shard "
            "has whole speakers: set fewer shards"
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


def gather(root: Path, stage: str, n_shards: int, max_rejected_fraction: float = 1.0) -> None:
    """Concatenate the tables of all shards of a stage, a key of `TABLES`.

    The former align/accuracy.json is removed.

    Raises:
        HproError: the stage is unknown, a shard is missing, violates its schema or was made from
            another list of utterances, the rejected fraction exceeds the limit, or a split of the
            dataset has no utterance.
    """
    if stage not in TABLES:
        raise HproError(f"{stage!r} has no tables to gather; stages: {', '.join(TABLES)}")
    _check_lists(root, n_shards)
    for shard in range(n_shards):
        _check_made(root, stage, shard)
    if stage == "align":
        remove(root / stage, ["accuracy.json"])
    held = {
        name: _joined(root, stage, name, schema, n_shards) for name, schema in TABLES[stage].items()
    }
    print(f"{stage}: " + ", ".join(f"{n} utterances in {name}" for name, n in held.items()))
    if "rejected" in held:
        lost = read_table(root / stage / "rejected.parquet", REJECTED)[["utt_id", "reason"]]
        reasons = lost.itertuples(index=False, name=None)
        check_rejected(reasons, stage, sum(held.values()), max_rejected_fraction)
    for split in held.keys() & set(TRAINING_SPLITS):
        check_split(root / stage / f"{split}.parquet", held[split])


def _check_lists(root: Path, n_shards: int) -> None:
    """Refuse lists of utterances that do not match the number of shards or the corpora."""
    if n_shards == 1:
        raise HproError("shards is 1: the stage itself wrote its tables, nothing to gather")
    corpus = root / "corpus"
    lists = sorted(corpus.glob("shards/*/utterances.parquet"))
    rows, all_rows = sum(map(count_rows, lists)), count_rows(corpus / "utterances.parquet")
    if (len(lists), rows) != (n_shards, all_rows):
        raise HproError(
            f"{corpus}/shards: {len(lists)} lists of {rows} utterances, but shards is {n_shards} "
            f"and utterances.parquet has {all_rows}: run `hpro corpus-split`, then each shard again"
        )


def _check_made(root: Path, stage: str, shard: int) -> None:
    """Refuse tables of a shard whose utterances are not those that entered the stage."""
    folder = folder_of(root, stage, shard)
    made = [distinct(folder / f"{name}.parquet", "utt_id") for name in TABLES[stage]]
    source = folder_of(root, "corpus", shard) / "utterances.parquet"
    only = {"split": TRAINING_SPLITS} if stage == "dataset" else None
    if stage == "label":  # each table has all aligned utterances
        _check_made(root, "align", shard)
        source = folder_of(root, "align", shard) / "words.parquet"
    else:  # each utterance is in one of the tables
        made = [set().union(*made)]
    entered = distinct(source, "utt_id", only)
    for found in made:
        if wrong := entered ^ found:
            raise HproError(
                f"{folder} lacks {len(entered - found)} utterances of {source} and has "
                f"{len(found - entered)} others (first: {min(wrong)}), so it was made from another "
                f"list: run `hpro {stage} --shard {shard}` again"
            )


def _joined(root: Path, stage: str, name: str, schema: pa.DataFrameSchema, n_shards: int) -> int:
    """Write the concatenated table, whole or not at all; return its number of utterances."""
    path = root / stage / f"{name}.parquet"
    parts = [folder_of(root, stage, shard) / f"{name}.parquet" for shard in range(n_shards)]
    filled = [part for part in parts if count_rows(part)]  # columns without rows have no types
    if not filled:
        write_table(empty(schema), path, schema)
        return 0
    writer, n_utterances = None, 0
    with replacing(path) as partial:
        for part in filled:
            table = read_table(part, schema)
            n_utterances += table["utt_id"].nunique()
            rows = pyarrow.Table.from_pandas(table, preserve_index=False)
            writer = writer or pq.ParquetWriter(partial, rows.schema, write_page_checksum=True)
            writer.write_table(rows.cast(writer.schema))
        assert writer is not None
        writer.close()
    return n_utterances
