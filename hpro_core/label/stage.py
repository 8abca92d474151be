"""The label stage: runs a teacher on every corpus and writes two tables for the run."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpro_core.errors import HproError
from hpro_core.label.exact import ExactLabels
from hpro_core.label.lexicon import Lexicon
from hpro_core.label.result_cache import cached_posteriors, cached_word_vad
from hpro_core.label.teachers import (
    AlignedUtterance,
    EmotionTeacher,
    WordVadTeacher,
    posterior_table,
    vad_table,
)
from hpro_core.label.weak import WeakEmotion, WeakWordVad
from hpro_core.params import Compute, Label
from hpro_core.shards import folder_of
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    by_utterance,
    read_table,
    write_table,
)
from hpro_core.train.loop import device_of, set_threads

ON_CPU = Compute(device="cpu", bf16=False)


@dataclass(frozen=True)
class PublishedTeachers:
    """The published teachers that the settings select, loaded once for all corpora."""

    emotion: EmotionTeacher | None = None
    words: WordVadTeacher | None = None


def run(
    root: Path,
    settings: Label,
    weights: Path,
    compute: Compute = ON_CPU,
    work: Path = Path("work/label"),
    shard: int | None = None,
) -> None:
    """Label every aligned utterance: label/emotion_posteriors.parquet and label/word_vad.parquet.

    A corpus with exact labels keeps them. The others are labelled by the teachers in the settings.

    Args:
        root: results folder of the run.
        settings: section `label`.
        weights: folder of `hpro weights fetch`, for the word norms.
        compute: device and threads of the published teachers, which run in float32.
        work: folder of the cached shards of the published teachers, from which a killed run
            resumes.
        shard: shard to label (hpro_core.shards), which may have no aligned utterance; None: all.

    Raises:
        HproError: a table, an audio file, the norms or a teacher's files are missing, or word
            counts differ.
    """
    posteriors: dict[str, np.ndarray] = {}
    affect: dict[str, np.ndarray] = {}
    corpora = aligned_utterances(root, shard)
    exact = {corpus for corpus in corpora if ExactLabels.exist(root / "corpus" / corpus)}
    published = PublishedTeachers() if exact == set(corpora) else load_published(settings, compute)
    for corpus, utterances in corpora.items():
        if corpus in exact:
            teacher = ExactLabels(root / "corpus" / corpus)
            emotion_N9, vad = teacher.posteriors(utterances), teacher.word_vad(utterances)
        else:
            emotion_N9, vad = _labels(utterances, settings, weights, published, work / corpus)
        ids = [utterance.utt_id for utterance in utterances]
        posteriors.update(zip(ids, emotion_N9, strict=True))
        affect.update(zip(ids, vad, strict=True))
        print(f"label: {corpus}: {len(utterances)} utterances, {sum(map(len, vad))} words")
    out = folder_of(root, "label", shard)
    emotions = posterior_table(posteriors)
    write_table(emotions, out / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    write_table(vad_table(affect), out / "word_vad.parquet", WORD_VAD)


def load_published(settings: Label, compute: Compute) -> PublishedTeachers:
    """Load the published teachers from the folders in the settings.

    Raises:
        HproError: a file or an optional package is missing, or a file is of another model.
    """
    emotion: EmotionTeacher | None = None
    words: WordVadTeacher | None = None
    if {settings.emotion_teacher, settings.vad_teacher} != {"weak"}:
        set_threads(compute.threads)
    if settings.emotion_teacher == "emotion2vec":
        from hpro_core.label.emotion2vec import Emotion2vecPosteriors

        emotion = Emotion2vecPosteriors(Path(settings.emotion2vec), device_of(compute.device))
    if settings.vad_teacher == "audeering":
        from hpro_core.label.audeering import AudeeringWordVad

        words = AudeeringWordVad(
            Path(settings.audeering),
            settings.window_words,
            settings.batch_size,
            device_of(compute.device),
        )
    return PublishedTeachers(emotion, words)


def aligned_utterances(root: Path, shard: int | None = None) -> dict[str, list[AlignedUtterance]]:
    """Read the aligned utterances of each corpus, in the order of the UTTERANCES table.

    A shard may have no aligned utterance.

    Raises:
        HproError: no utterance is aligned, or the words of an utterance differ from its alignment.
    """
    utterances = read_table(folder_of(root, "corpus", shard) / "utterances.parquet", UTTERANCES)
    words = read_table(folder_of(root, "align", shard) / "words.parquet", WORDS)
    aligned = by_utterance(words)
    by_corpus: dict[str, list[AlignedUtterance]] = {}
    for row in utterances.to_dict("records"):
        if row["utt_id"] in aligned:
            known = _utterance(root, row, aligned[row["utt_id"]])
            by_corpus.setdefault(row["corpus"], []).append(known)
    if not by_corpus and shard is None:
        raise HproError(
            f"{root}/align/words.parquet has no utterance of this run: run `hpro align` again"
        )
    return by_corpus


def _utterance(root: Path, row: Mapping[Hashable, Any], words: pd.DataFrame) -> AlignedUtterance:
    expected = row["words"].split()
    if words["word"].tolist() != expected:
        raise HproError(
            f"{root}/align/words.parquet: the words of {row['utt_id']} are "
            f"{' '.join(words['word'])!r}, but its transcript is {row['words']!r}: run `hpro "
            "align` again"
        )
    return AlignedUtterance(
        utt_id=row["utt_id"],
        speaker=row["speaker"],
        text=row["text"],
        words=tuple(expected),
        spans_s=words[["start_s", "end_s"]].to_numpy(dtype=np.float64),
        audio=root / row["audio"],
    )


def _labels(
    utterances: list[AlignedUtterance],
    settings: Label,
    weights: Path,
    published: PublishedTeachers,
    work: Path,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Compute posteriors (N, 9) and affect (W, 3) per utterance, ordered as EMOTIONS and VAD."""
    size = settings.shard_utterances
    if published.words is not None:
        vad = cached_word_vad(published.words, utterances, work / "word_vad", size)
    else:
        weak = WeakWordVad(Lexicon.read(weights), settings.window_words)
        vad = weak.word_vad(utterances)
    if published.emotion is not None:
        return cached_posteriors(published.emotion, utterances, work / "emotion", size), vad
    affect = {u.utt_id: rows for u, rows in zip(utterances, vad, strict=True)}
    return WeakEmotion(affect, settings.temperature).posteriors(utterances), vad
