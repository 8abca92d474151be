"""The same test sentences by every system: audio, ASR transcript, affect over words."""

import base64
import io
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
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
from hpro_core.judges.asr import WordErrorCounter
from hpro_core.report.figures import word_traces
from hpro_core.tables import SCORES, SYNTHESIS, UTTERANCES, WORD_VAD, read_table

Rows = dict[str, dict[Hashable, Any]]
"""A table as rows by utt_id."""

_MP3_COMPRESSION = 0.75  # ours: about 24 kbit/s at 16 kHz; chosen by listening


@dataclass(frozen=True)
class System:
    """Synthesis and scores of one system for its first seed."""

    name: str
    seed: int
    synthesis: Rows
    scores: Rows
    word_vad: pd.DataFrame | None  # judged word affect; None if the file is missing


@dataclass(frozen=True)
class SystemSample:
    """One sentence by one system."""

    system: str
    audio: str  # data URI
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
    traces: str  # <svg>, or empty
    systems: list[SystemSample]


def load_system(root: Path, name: str, seed: int) -> System:
    """Read a system's synthesis, scores and, if present, judged word affect for one policy seed.

    Raises:
        HproError: the system was not synthesised or not judged.
    """
    folder = root / "eval" / name / f"seed{seed}"
    for file, command in (("synthesis", "synthesise"), ("scores", "judge")):
        if not (folder / f"{file}.parquet").is_file():
            run = f"`hpro {command} {name} --seed {seed}`"
            raise HproError(f"{folder}/{file}.parquet does not exist: run {run} first")
    vad_path = folder / "word_vad.parquet"
    return System(
        name=name,
        seed=seed,
        synthesis=_rows(folder / "synthesis.parquet", SYNTHESIS),
        scores=_rows(folder / "scores.parquet", SCORES),
        word_vad=read_table(vad_path, WORD_VAD) if vad_path.is_file() else None,
    )


def _rows(
    path: Path, schema: pa.DataFrameSchema, only: Mapping[str, list[str]] | None = None
) -> Rows:
    return {row["utt_id"]: row for row in read_table(path, schema, only).to_dict("records")}


def choose_sentences(systems: Sequence[System], per_set: int) -> list[str]:
    """Choose up to `per_set` sentences of each test set that all systems share.

    They are evenly spaced over the sorted ids.

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
    corpora = {utt_id: row["corpus"] for utt_id, row in systems[0].synthesis.items()}
    picked: list[str] = []
    for corpus in dict.fromkeys(corpora.values()):
        picked += evenly_spaced([u for u in shared if corpora[u] == corpus], per_set)
    return picked


def evenly_spaced(utt_ids: Iterable[str], n: int) -> list[str]:
    """Choose up to `n` ids, evenly spaced over the sorted ones."""
    ids = sorted(utt_ids)
    return [
        ids[place] for place in np.linspace(0, len(ids) - 1, min(n, len(ids))).round().astype(int)
    ]


def samples(
    root: Path, systems: Sequence[System], per_set: int, external: Collection[str] = ()
) -> list[Sample]:
    """Collect the `choose_sentences` sentences of all systems, in the given order of systems.

    Systems of this project choose the sentences; an external one that lacks a sentence is left out
    there.

    Raises:
        HproError: a table or an audio file is missing.
    """
    own = [system for system in systems if system.name not in external]
    chosen = choose_sentences(own or systems, per_set)
    known = _rows(root / "corpus" / "utterances.parquet", UTTERANCES, only={"utt_id": chosen})
    truth = read_table(root / "label" / "word_vad.parquet", WORD_VAD, only={"utt_id": chosen})
    return [_sample(root, utt_id, known[utt_id], truth, systems) for utt_id in chosen]


def _sample(
    root: Path,
    utt_id: str,
    utterance: Mapping[Hashable, Any],
    truth: pd.DataFrame,
    systems: Sequence[System],
) -> Sample:
    words = utterance["words"].split()
    kept = {"truth": truth} | {s.name: s.word_vad for s in systems if s.word_vad is not None}
    traces = {name: table[table["utt_id"] == utt_id] for name, table in kept.items()}
    reference = WordErrorCounter().count(utterance["text"], utterance["text"]).transcript
    present = {name: rows for name, rows in traces.items() if len(rows)}
    return Sample(
        utt_id=utt_id,
        corpus=utterance["corpus"],
        speaker=utterance["speaker"],
        text=utterance["text"],
        traces=word_traces(words, present) if present else "",
        systems=[
            system_sample(root, system, utt_id, reference)
            for system in systems
            if utt_id in system.scores
        ],
    )


def system_sample(root: Path, system: System, utt_id: str, reference: str) -> SystemSample:
    """Collect one sentence by one system; `reference` is the text after the ASR's normaliser.

    Raises:
        HproError: the audio file is missing or unreadable.
    """
    score = system.scores[utt_id]
    return SystemSample(
        system=system.name,
        audio=mp3_uri(root / system.synthesis[utt_id]["audio"]),
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
        bitrate_mode="CONSTANT",
    )
    return f"data:audio/mpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
