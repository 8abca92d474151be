"""Resumable cache of model outputs in shards, so that a killed run loses at most one shard.

A shard is a fixed number of utterances. Its result is one Parquet file, written atomically. The
file stores an identity hash of its inputs: settings and weights of the model, and names, word times
and audio of the utterances. A file with another identity is not used.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, parquet_errors, replacing
from hpro_core.label.teachers import AlignedUtterance, EmotionTeacher, WordVadTeacher, reorder
from hpro_core.progress import track

IDENTITY = b"hpro.identity"
"""Key of the identity hash in the metadata of a shard."""

Compute = Callable[[Sequence[AlignedUtterance]], Iterable[Any]]
"""Function from utterances to one result each: an array (K,) or a text."""


def cached_posteriors(
    teacher: EmotionTeacher, utterances: Sequence[AlignedUtterance], folder: Path, size: int
) -> np.ndarray:
    """Compute or load the emotion posteriors of utterances, float64 (N, 9), ordered as EMOTIONS.

    Raises:
        HproError: as `in_shards`, or what the teacher raises.
    """
    rows = in_shards(utterances, teacher.posteriors, folder, size, teacher.identity)
    return reorder(np.stack(rows), teacher.classes, EMOTIONS)


def cached_word_vad(
    teacher: WordVadTeacher, utterances: Sequence[AlignedUtterance], folder: Path, size: int
) -> list[np.ndarray]:
    """Compute or load the affect of words, float64 (W, 3) each, ordered as VAD.

    Raises:
        HproError: as `in_shards`, or what the teacher raises.
    """

    def flat(part: Sequence[AlignedUtterance]) -> list[np.ndarray]:
        return [rows_WC.ravel() for rows_WC in teacher.word_vad(part)]

    names = teacher.dimensions
    found = in_shards(utterances, flat, folder, size, teacher.identity)
    return [reorder(values.reshape(-1, len(names)), names, VAD) for values in found]


def in_shards(
    utterances: Sequence[AlignedUtterance],
    compute: Compute,
    folder: Path,
    size: int,
    about: Mapping[str, object],
) -> list[Any]:
    """Return a model's result for each utterance: read valid shards, compute and write the others.

    Prints the number of shards that were found and that were outdated.

    Args:
        utterances: utterances in the order in which they are split into shards.
        compute: computes the results of a shard; each must not depend on the other utterances.
        folder: folder of the shards, for one model and these utterances only.
        size: utterances per shard; the last shard may have fewer.
        about: everything that the results depend on besides the utterances; JSON values.

    Raises:
        HproError: a shard cannot be read, or an audio file is missing.
    """
    starts = range(0, len(utterances), size)
    found, stale, results = 0, 0, []
    for index, start in enumerate(track(starts, len(starts), f"shards in {folder}")):
        part = utterances[start : start + size]
        path = folder / f"{index:05d}.parquet"
        identity = identity_of(part, about)
        table = read_shard(path, identity)
        found += table is not None
        stale += table is None and path.is_file()
        if table is None:
            ids = [utterance.utt_id for utterance in part]
            table = pd.DataFrame({"utt_id": ids, "result": list(compute(part))})
            write_shard(table, path, identity)
        results += table["result"].tolist()
    print(
        f"{folder}: {len(starts)} shards, {found} found, {stale} of other settings, weights, code "
        "or utterances and computed again",
        flush=True,
    )
    return results


def identity_of(utterances: Sequence[AlignedUtterance], about: Mapping[str, object]) -> str:
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
        content = [utterance.utt_id, utterance.words, utterance.spans_s.tolist()]
        digest.update(json.dumps([*content, fingerprint(utterance.audio)]).encode())
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
