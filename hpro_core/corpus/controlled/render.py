"""Renders the controlled corpus: speech with exact words, times, emotion and V/A/D labels."""

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core import tables
from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, VAD
from hpro_core.corpus.audio import write_wav
from hpro_core.corpus.controlled import affect
from hpro_core.corpus.controlled.ceilings import ceiling_plans
from hpro_core.corpus.controlled.sentence_plans import Plan
from hpro_core.params import Corpus
from hpro_core.progress import track

Rendered = tuple[Plan, float, np.ndarray]
"""A plan, its duration in seconds, and its word times (W, 2)."""


def render(
    folder: Path, name: str, planned: list[Plan], corpus: Corpus, workers: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Render a corpus into `folder` and write its truth tables there.

    Args:
        folder: output folder for audio/<utt_id>.wav, truth_words, truth_vad and truth_emotion; for
            test sentences also audio/<utt_id>.<kind>.wav and again_words (see `ceilings`).
        name: name of the set; the prefix of utt_id.
        planned: its utterances (`sentence_plans`).
        corpus: limits of duration.
        workers: number of processes.

    Returns:
        The `utterances` table, and utt_id -> reason for the rejected renderings of both kinds.
    """
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "audio").mkdir(parents=True)
    kept, lost = _rendered(planned, folder / "audio", corpus, workers)
    _write_truth(folder, kept)
    ceilings = [
        ceiling for plan, *_ in kept if plan.split == "test" for ceiling in ceiling_plans(plan)
    ]
    kept_ceilings, lost_ceilings = _rendered(ceilings, folder / "audio", corpus, workers)
    _write_words(folder / "again_words.parquet", kept_ceilings)
    rows = [_row(name, plan, duration_s) for plan, duration_s, _ in kept]
    return pd.DataFrame(rows, columns=list(tables.UTTERANCES.columns)), lost | lost_ceilings


def _rendered(
    planned: list[Plan], folder: Path, corpus: Corpus, workers: int
) -> tuple[list[Rendered], dict[str, str]]:
    """Render plans; return the usable ones, and utt_id -> reason for the others."""
    kept, lost = [], {}
    for plan, outcome in zip(planned, _render_all(planned, folder, workers), strict=True):
        reason = _reason(outcome, corpus)
        if reason:
            lost[plan.utt_id] = reason
            (folder / f"{plan.utt_id}.wav").unlink(missing_ok=True)
        else:
            kept.append((plan, *outcome))
    return kept, lost


def _reason(outcome: tuple[float, np.ndarray], corpus: Corpus) -> str:
    """The reason why an outcome is rejected; empty if it is accepted."""
    duration_s = outcome[0]
    if not duration_s:
        return "phones and words do not match"
    if duration_s < corpus.min_duration_s:
        return f"shorter than {corpus.min_duration_s:g} s"
    if duration_s > corpus.max_duration_s:
        return f"longer than {corpus.max_duration_s:g} s"
    return ""


def _render_all(planned: list[Plan], folder: Path, workers: int) -> list[tuple[float, np.ndarray]]:
    """Duration in seconds and word spans (W, 2) of each plan; duration 0 if rendering fails."""
    jobs = [(plan, folder / f"{plan.utt_id}.wav") for plan in planned]
    if workers == 1:
        _start_worker()
        return list(track(map(_render_one, jobs), len(jobs), "rendering"))
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_start_worker) as pool:
        outcomes = pool.imap(_render_one, jobs, chunksize=16)
        return list(track(outcomes, len(jobs), "rendering"))


_worker: dict = {}  # the voice of this process


def _start_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from hpro_core.corpus.controlled.voice import Voice  # loads the network once per process

    _worker["voice"] = Voice()


def _render_one(job: tuple[Plan, Path]) -> tuple[float, np.ndarray]:
    from hpro_core.corpus.controlled.voice import UnreadableSentence

    plan, path = job
    try:
        speech = _worker["voice"].synthesise(
            plan.sentence.text, plan.n_words, plan.controls, plan.seed
        )
    except UnreadableSentence:
        return 0.0, np.zeros((0, 2))
    write_wav(path, speech.samples)
    return len(speech.samples) / SAMPLE_RATE_HZ, speech.spans_s


def _row(name: str, plan: Plan, duration_s: float) -> dict:
    return {
        "utt_id": plan.utt_id,
        "corpus": name,
        "speaker": plan.speaker,
        "text": plan.sentence.text,
        "words": plan.sentence.words,
        "audio": f"corpus/{name}/audio/{plan.utt_id}.wav",
        "duration_s": duration_s,
        "split": plan.split,
        "group": plan.sentence.words,
        "emotion": plan.style,
        "label": plan.style,
    }


def _write_truth(folder: Path, kept: list[Rendered]) -> None:
    vad, emotion = [], []
    for plan, *_ in kept:
        vad_W3 = affect.vad_W3(plan.signed_W3)
        vad += [(plan.utt_id, index, *point) for index, point in enumerate(vad_W3)]
        emotion.append((plan.utt_id, *affect.posterior(plan.style, plan.strength)))
    _write_words(folder / "truth_words.parquet", kept)
    for file, rows, columns, schema in (
        ("truth_vad", vad, ["utt_id", "word_index", *VAD], tables.WORD_VAD),
        ("truth_emotion", emotion, ["utt_id", *EMOTIONS], tables.EMOTION_POSTERIORS),
    ):
        table = pd.DataFrame(rows, columns=columns)
        tables.write_table(table, folder / f"{file}.parquet", schema)


def _write_words(path: Path, kept: list[Rendered]) -> None:
    rows = [
        (plan.utt_id, index, word, *span_s, 1.0)
        for plan, _, spans_s in kept
        for index, (word, span_s) in enumerate(
            zip(plan.sentence.words.split(), spans_s, strict=True)
        )
    ]
    table = pd.DataFrame(rows, columns=list(tables.WORDS.columns))
    tables.write_table(table, path, tables.WORDS)
