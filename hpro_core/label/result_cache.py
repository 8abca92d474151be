"""Resumable cache of model outputs in shards, so that a killed run loses at most one shard.

A shard is a fixed number of utterances. Its result is one Parquet file, written atomically. The
file stores an identity hash of its inputs: settings and weights of the model, and names, word times
and audio of the utterances. A file with another identity is not used.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hpro_core.errors import HproError
from hpro_core.io import fingerprint, parquet_errors, replacing
from hpro_core.label.teachers import EmotionTeacher, SpokenUtterance, WordVadTeacher
from hpro_core.progress import track

IDENTITY = b"hpro.identity"
"""Key of the identity hash in the metadata of a shard."""

Compute = Callable[[Sequence[SpokenUtterance]], pd.DataFrame]


class PublishedEmotion(EmotionTeacher, Protocol):
    """An `EmotionTeacher` that labels each utterance independently and has an identity."""

    identity: dict[str, object]
    """Everything that the results depend on besides the utterances, such as hashes of weights."""


class PublishedWordVad(WordVadTeacher, Protocol):
    """A `WordVadTeacher` that labels each utterance independently and has an identity."""

    identity: dict[str, object]
    """Everything that the results depend on besides the utterances, such as hashes of weights."""


class ShardedEmotion:
    """An `EmotionTeacher` that caches the results of another one in shards."""

    def __init__(self, teacher: PublishedEmotion, folder: Path, size: int):
        """
        Args:
            teacher: teacher that computes the results.
            folder: folder of the shards of one teacher and one corpus.
            size: utterances per shard; the last shard may have fewer.
        """
        self.teacher = teacher
        self.classes = teacher.classes
        self.folder = folder
        self.size = size

    def posteriors(self, utterances: Sequence[SpokenUtterance]) -> np.ndarray:
        """Compute or load the posteriors, see `EmotionTeacher`.

        Raises:
            HproError: a shard cannot be read, or what the teacher raises.
        """
        identity = self.teacher.identity
        table = in_shards(utterances, self._table, self.folder, self.size, identity)
        return table[list(self.classes)].to_numpy()

    def _table(self, utterances: Sequence[SpokenUtterance]) -> pd.DataFrame:
        posteriors_NC = np.asarray(self.teacher.posteriors(utterances), dtype=np.float64)
        table = pd.DataFrame(posteriors_NC, columns=list(self.classes))
        table.insert(0, "utt_id", [utterance.utt_id for utterance in utterances])
        return table


class ShardedWordVad:
    """A `WordVadTeacher` that caches the results of another one in shards."""

    def __init__(self, teacher: PublishedWordVad, folder: Path, size: int):
        """
        Args:
            teacher: teacher that computes the results.
            folder: folder of the shards of one teacher and one corpus.
            size: utterances per shard; the last shard may have fewer.
        """
        self.teacher = teacher
        self.dimensions = teacher.dimensions
        self.folder = folder
        self.size = size

    def word_vad(self, utterances: Sequence[SpokenUtterance]) -> list[np.ndarray]:
        """Compute or load the affect of words, see `WordVadTeacher`.

        Raises:
            HproError: a shard cannot be read, or what the teacher raises.
        """
        identity = self.teacher.identity
        table = in_shards(utterances, self._table, self.folder, self.size, identity)
        ends = np.cumsum([len(utterance.words) for utterance in utterances])
        return np.split(table[list(self.dimensions)].to_numpy(), ends[:-1])

    def _table(self, utterances: Sequence[SpokenUtterance]) -> pd.DataFrame:
        rows = [np.asarray(found, dtype=np.float64) for found in self.teacher.word_vad(utterances)]
        table = pd.DataFrame(np.concatenate(rows), columns=list(self.dimensions))
        words = [(u.utt_id, index) for u in utterances for index in range(len(u.words))]
        table.insert(0, "utt_id", [utt_id for utt_id, _ in words])
        table.insert(1, "word_index", [index for _, index in words])
        return table


def in_shards(
    utterances: Sequence[SpokenUtterance],
    compute: Compute,
    folder: Path,
    size: int,
    about: Mapping[str, object],
) -> pd.DataFrame:
    """Read the valid shards of a table, compute and write the others, and join them.

    Prints the number of shards that were found and that were outdated.

    Args:
        utterances: utterances in the order in which they are split into shards.
        compute: computes the table of the utterances of a shard.
        folder: folder of the shards.
        size: utterances per shard.
        about: everything that the results depend on besides the utterances; JSON values.

    Returns:
        The table that `compute` gives, for all utterances.

    Raises:
        HproError: a shard cannot be read, or an audio file is missing.
    """
    starts = range(0, len(utterances), size)
    found, stale, tables = 0, 0, []
    for index, start in enumerate(track(starts, len(starts), f"shards in {folder}")):
        part = utterances[start : start + size]
        path = folder / f"{index:05d}.parquet"
        identity = identity_of(part, about)
        table = read_shard(path, identity)
        found += table is not None
        stale += table is None and path.is_file()
        if table is None:
            table = compute(part)
            write_shard(table, path, identity)
        tables.append(table)
    print(
        f"{folder}: {len(starts)} shards, {found} found, {stale} of other settings, weights, code "
        "or utterances and computed again",
        flush=True,
    )
    return pd.concat(tables, ignore_index=True)


def identity_of(utterances: Sequence[SpokenUtterance], about: Mapping[str, object]) -> str:
    """Hash everything that a shard depends on: `about`, and names, words, word times and audio.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        HproError: an audio file is missing.
    """
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for utterance in utterances:
        if not utterance.audio.is_file():
            raise HproError(
                f"{utterance.utt_id}: {utterance.audio} is missing: run `hpro corpus-read` again"
            )
        said = [utterance.utt_id, utterance.words, utterance.spans_s.tolist()]
        digest.update(json.dumps([*said, fingerprint(utterance.audio)]).encode())
    return digest.hexdigest()


def read_shard(path: Path, identity: str) -> pd.DataFrame | None:
    """Read the table of a shard; None if the file is missing or has another identity.

    Raises:
        HproError: the file is broken.
    """
    if not path.is_file():
        return None
    with parquet_errors(path, "remove it"):
        table = pq.read_table(path, page_checksum_verification=True)
        table.validate(full=True)
    if (table.schema.metadata or {}).get(IDENTITY) != identity.encode():
        return None
    with parquet_errors(path, "remove it"):
        return table.to_pandas(ignore_metadata=True)


def write_shard(table: pd.DataFrame, path: Path, identity: str) -> None:
    """Write a shard atomically, with its identity in the metadata."""
    rows = pa.Table.from_pandas(table, preserve_index=False)
    rows = rows.replace_schema_metadata({IDENTITY: identity.encode()})
    with replacing(path) as partial:
        pq.write_table(rows, partial, write_page_checksum=True)
