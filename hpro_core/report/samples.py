"""The same test sentences by every system: audio and ASR transcript."""

import base64
import io
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pandas as pd
import pandera.pandas as pa
import soundfile

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import read_wav
from hpro_core.report.figures import style_of
from hpro_core.tables import (
    GENERATED_TOKENS,
    SCORES,
    SYNTHESIS,
    WORD_VAD,
    WORDS,
    read_table,
)

Rows = dict[str, dict[Hashable, Any]]
"""A table as rows by utt_id."""

MP3_URI = "data:audio/mpeg;base64,"
_MP3_COMPRESSION = 0.6  # ours: about 28 kbit/s at 16 kHz, variable


@dataclass(frozen=True)
class System:
    """Synthesis and scores of one system for its first seed."""

    root: Path  # results folder of the run
    name: str
    style: str  # class of its colour
    seed: int
    synthesis: Rows
    scores: Rows
    word_vad: pd.DataFrame | None  # judged word affect; None if the file is missing
    words: pd.DataFrame | None  # word times; None if the file is missing
    tokens: pd.DataFrame | None  # speech tokens; None if the file is missing, as of other systems


@dataclass(frozen=True)
class SystemSample:
    """One sentence by one system."""

    system: str
    path: str  # of the WAV file, relative to the results folder of the run
    audio: str  # MP3, as data URI
    word_diff: list[tuple[str, str]]  # kind (equal, substitute, insert, delete) and words
    n_errors: int
    wvad_ccc: float  # NaN if the words were not found or the affect is not judged
    emo_sim: float  # NaN if the affect is not judged


@dataclass(frozen=True)
class Sample:
    """One sentence by all systems."""

    utt_id: str
    corpus: str
    speaker: str
    text: str
    systems: list[SystemSample]


def load_system(root: Path, name: str, seed: int) -> System:
    """Read a system's synthesis, scores and, if present, words and tokens for one policy seed.

    Raises:
        HproError: the system was not synthesised or not judged.
    """
    folder = root / "eval" / name / f"seed{seed}"
    for file, command in (("synthesis", "synthesise"), ("scores", "judge")):
        if not (folder / f"{file}.parquet").is_file():
            run = f"`hpro {command} {name} --seed {seed}`"
            raise HproError(f"{folder}/{file}.parquet does not exist: run {run} first")
    optional = {
        name: read_table(path, schema) if (path := folder / f"{name}.parquet").is_file() else None
        for name, schema in (("word_vad", WORD_VAD), ("words", WORDS), ("tokens", GENERATED_TOKENS))
    }
    return System(
        root=root,
        name=name,
        style=style_of(name),
        seed=seed,
        synthesis=rows_by_id(folder / "synthesis.parquet", SYNTHESIS),
        scores=rows_by_id(folder / "scores.parquet", SCORES),
        **optional,
    )


def rows_by_id(
    path: Path, schema: pa.DataFrameSchema, only: Mapping[str, list[str]] | None = None
) -> Rows:
    """Read a table as rows by utt_id; `only` is as for `read_table`."""
    return {row["utt_id"]: row for row in read_table(path, schema, only).to_dict("records")}


def shared_sentences(systems: Sequence[System]) -> list[str]:
    """Return the sentences that all systems have, sorted.

    Raises:
        HproError: the systems have no sentence in common.
    """
    shared = set.intersection(*(s.synthesis.keys() & s.scores.keys() for s in systems))
    if not shared:
        names = ", ".join(system.name for system in systems)
        raise HproError(
            f"{names} have no test sentence in common: run `hpro synthesise` and "
            "`hpro judge` for them again"
        )
    return sorted(shared)


def choose_sentences(shared: Sequence[str], test_sets: Mapping[str, str], n: int) -> list[str]:
    """Choose up to `n` sentences of each test set, evenly spaced over the sorted ids.

    Args:
        shared: utt_ids to choose from.
        test_sets: utt_id -> test set.
        n: number per test set.

    Returns:
        The first of each set, then the second of each, and so on.
    """
    return by_turns(
        evenly_spaced(sorted(u for u in shared if test_sets[u] == name), n)
        for name in dict.fromkeys(test_sets.values())
    )


def by_turns(lists: Iterable[Sequence[str]]) -> list[str]:
    """Return the first of each list, then the second of each, and so on."""
    turns = itertools.zip_longest(*lists)
    return [utt_id for turn in turns for utt_id in turn if utt_id is not None]


def evenly_spaced(utt_ids: Sequence[str], n: int) -> list[str]:
    """Choose up to `n` ids, evenly spaced over the given order: the first, the last, between."""
    places = np.linspace(0, len(utt_ids) - 1, min(n, len(utt_ids))).round().astype(int)
    return [utt_ids[place] for place in places]


def system_sample(system: System, utt_id: str, reference: str) -> SystemSample:
    """Collect one sentence by one system; `reference` is the text after the ASR's normaliser.

    Raises:
        HproError: the audio file is missing or unreadable.
    """
    score = system.scores[utt_id]
    return SystemSample(
        system=system.name,
        path=system.synthesis[utt_id]["audio"],
        audio=mp3_uri(system.root / system.synthesis[utt_id]["audio"]),
        word_diff=diff_words(reference, score["transcript"]),
        n_errors=int(score["n_errors"]),
        wvad_ccc=float(score["wvad_ccc"]),
        emo_sim=float(score["emo_sim"]),
    )


def diff_words(reference: str, transcript: str) -> list[tuple[str, str]]:
    """Split a transcript into segments, each with its kind of difference from the reference.

    Args:
        reference: the text, after the ASR judge's normaliser.
        transcript: the transcript, after the same normaliser; may be empty.

    Returns:
        Pairs of kind and words. Words of "equal", "substitute" and "insert" are from the
        transcript, words of "delete" from the reference.
    """
    if not transcript:
        return [("delete", reference)]
    reference_words, hypothesis_words = reference.split(), transcript.split()
    return [
        (
            chunk.type,
            " ".join(
                reference_words[chunk.ref_start_idx : chunk.ref_end_idx]
                if chunk.type == "delete"
                else hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
            ),
        )
        for chunk in jiwer.process_words(reference, transcript).alignments[0]
    ]


def mp3_uri(path: Path) -> str:
    """Encode a WAV file as an MP3 data URI.

    Raises:
        HproError: the file is missing or unreadable.
    """
    audio = read_wav(path, SAMPLE_RATE_HZ, "run `hpro synthesise` again")
    stream = io.BytesIO()
    soundfile.write(
        stream,
        audio,
        SAMPLE_RATE_HZ,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=_MP3_COMPRESSION,
        bitrate_mode="VARIABLE",
    )
    return f"{MP3_URI}{base64.b64encode(stream.getvalue()).decode()}"
