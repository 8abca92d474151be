"""The controlled corpus: rendered speech with exact words, times, emotion and V/A/D."""

import multiprocessing
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core import tables
from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, VAD
from hpro_core.corpus import affect
from hpro_core.corpus.audio import write_wav
from hpro_core.corpus.sentences import Sentence, sentences
from hpro_core.params import Controlled, Corpus
from hpro_core.progress import track

SPEAKER = "hibari"
EMPHASISED_SHARE = 0.5
"""Part of the utterances with one emphasised word (ours)."""
EMPHASIS_ON_FEELING = 0.7
"""Part of these where it is the word that carries the style, else another content word (ours)."""
STRENGTH = (0.5, 1.0)
"""Range of the strength of a style, uniform (ours)."""


@dataclass(frozen=True)
class Plan:
    """One utterance before it is rendered: everything that decides how it sounds.

    Attributes:
        utt_id: name of the audio file without suffix.
        emphasised: index of the emphasised word, or None.
        seed: of the noise in the voice.
    """

    utt_id: str
    sentence: Sentence
    strength: float
    emphasised: int | None
    seed: list[int]

    @property
    def n_words(self) -> int:
        return len(self.sentence.words.split())

    @property
    def feeling_W3(self) -> np.ndarray:
        style, span = self.sentence.style, self.sentence.feeling
        return affect.feeling_W3(style, self.strength, self.n_words, span)

    @property
    def emphasis_W(self) -> np.ndarray:
        return affect.emphasis_W(self.n_words, self.emphasised)


def plans(name: str, settings: Controlled) -> list[Plan]:
    """What to render: a different sentence per utterance, strength and emphasis by chance."""
    rng = np.random.default_rng([settings.seed, 1])
    return [
        Plan(
            utt_id=f"{name}_{index:05d}",
            sentence=sentence,
            strength=float(rng.uniform(*STRENGTH)),
            emphasised=_emphasised(sentence, rng),
            seed=[settings.seed, index],
        )
        for index, sentence in enumerate(sentences(settings.utterances, settings.seed))
    ]


def render(
    folder: Path, name: str, settings: Controlled, corpus: Corpus, workers: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Render the corpus into `folder` and write its truth tables there.

    Args:
        folder: gets audio/<utt_id>.wav, truth_words, truth_vad and truth_emotion.
        name: of the set; the prefix of utt_id.
        settings: how many utterances, and the seed.
        corpus: limits of duration.
        workers: processes.

    Returns:
        The `utterances` table, and utt_id -> reason for what was rejected.
    """
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "audio").mkdir(parents=True)
    planned = plans(name, settings)
    rendered = _render_all(planned, folder / "audio", workers)
    kept, lost = [], {}
    for plan, outcome in zip(planned, rendered, strict=True):
        reason = _reason(outcome, corpus)
        if reason:
            lost[plan.utt_id] = reason
            (folder / "audio" / f"{plan.utt_id}.wav").unlink(missing_ok=True)
        else:
            kept.append((plan, *outcome))
    _write_truth(folder, kept)
    rows = [_row(name, plan, duration_s) for plan, duration_s, _ in kept]
    return pd.DataFrame(rows, columns=list(tables.UTTERANCES.columns)), lost


def _emphasised(sentence: Sentence, rng: np.random.Generator) -> int | None:
    if rng.random() >= EMPHASISED_SHARE:
        return None
    if rng.random() < EMPHASIS_ON_FEELING or not sentence.content:
        return sentence.feeling[0]
    return int(rng.choice(sentence.content))


def _reason(outcome: tuple[float, np.ndarray], corpus: Corpus) -> str:
    """Why an outcome is rejected, or an empty string."""
    duration_s = outcome[0]
    if not duration_s:
        return "phones and words do not match"
    if duration_s < corpus.min_duration_s:
        return f"shorter than {corpus.min_duration_s:g} s"
    if duration_s > corpus.max_duration_s:
        return f"longer than {corpus.max_duration_s:g} s"
    return ""


def _render_all(planned: list[Plan], folder: Path, workers: int) -> list[tuple[float, np.ndarray]]:
    """Duration in seconds and word spans (W, 2) of each plan; duration 0 if it cannot be said."""
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
    from hpro_core.corpus.voice import Voice  # loads the network: once per process

    _worker["voice"] = Voice()


def _render_one(job: tuple[Plan, Path]) -> tuple[float, np.ndarray]:
    from hpro_core.corpus.voice import UnreadableSentence

    plan, path = job
    controls = affect.controls(plan.feeling_W3, plan.emphasis_W)
    try:
        spoken = _worker["voice"].say(plan.sentence.text, plan.n_words, controls, plan.seed)
    except UnreadableSentence:
        return 0.0, np.zeros((0, 2))
    write_wav(path, spoken.samples)
    return len(spoken.samples) / SAMPLE_RATE_HZ, spoken.spans_s


def _row(name: str, plan: Plan, duration_s: float) -> dict:
    return {
        "utt_id": plan.utt_id,
        "corpus": name,
        "speaker": SPEAKER,
        "text": plan.sentence.text,
        "words": plan.sentence.words,
        "audio": f"corpus/{name}/audio/{plan.utt_id}.wav",
        "duration_s": duration_s,
        "split": "",
        "group": plan.sentence.words,
        "emotion": plan.sentence.style,
    }


def _write_truth(folder: Path, kept: list[tuple[Plan, float, np.ndarray]]) -> None:
    words, vad, emotion = [], [], []
    for plan, _, spans_s in kept:
        words += [
            (plan.utt_id, index, word, *span_s, 1.0)
            for index, (word, span_s) in enumerate(
                zip(plan.sentence.words.split(), spans_s, strict=True)
            )
        ]
        vad_W3 = affect.vad_W3(plan.feeling_W3, plan.emphasis_W)
        vad += [(plan.utt_id, index, *point) for index, point in enumerate(vad_W3)]
        emotion.append((plan.utt_id, *affect.posterior(plan.sentence.style, plan.strength)))
    for file, rows, columns, schema in (
        ("truth_words", words, list(tables.WORDS.columns), tables.WORDS),
        ("truth_vad", vad, ["utt_id", "word_index", *VAD], tables.WORD_VAD),
        ("truth_emotion", emotion, ["utt_id", *EMOTIONS], tables.EMOTION_POSTERIORS),
    ):
        table = pd.DataFrame(rows, columns=columns)
        tables.write_table(table, folder / f"{file}.parquet", schema)
