"""The label stage: a teacher for every corpus, two tables for the run."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.label.exact import ExactLabels
from hpro_core.label.lexicon import Lexicon
from hpro_core.label.teachers import (
    EmotionTeacher,
    SpokenUtterance,
    WordVadTeacher,
    in_order,
)
from hpro_core.label.weak import WeakEmotion, WeakWordVad
from hpro_core.params import Label
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    write_table,
)


def run(root: Path, settings: Label, weights: Path) -> None:
    """Label every aligned utterance: label/emotion_posteriors.parquet and label/word_vad.parquet.

    A corpus that came with exact labels keeps them; any other gets the weak teachers.

    Args:
        root: results folder of the run.
        settings: section `label`.
        weights: folder of `hpro weights fetch`, for the word norms.

    Raises:
        HproError: a table, an audio file or the norms are missing, or counts of words differ.
    """
    posteriors, affect = [], []
    for corpus, utterances in spoken(root).items():
        emotion_N9, vad = _labels(root / "corpus" / corpus, utterances, settings, weights)
        posteriors.append(_posterior_table(utterances, emotion_N9))
        affect += [_vad_table(u.utt_id, rows) for u, rows in zip(utterances, vad, strict=True)]
        print(f"label: {corpus}: {len(utterances)} utterances, {sum(map(len, vad))} words")
    out = root / "label"
    write_table(pd.concat(posteriors), out / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    write_table(pd.concat(affect), out / "word_vad.parquet", WORD_VAD)


def spoken(root: Path) -> dict[str, list[SpokenUtterance]]:
    """The aligned utterances of each corpus, in the order of the table.

    Raises:
        HproError: nothing is aligned, or an utterance's word count differs from its alignment.
    """
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    words = read_table(root / "align" / "words.parquet", WORDS)
    aligned = dict(list(words.sort_values(["utt_id", "word_index"]).groupby("utt_id")))
    by_corpus: dict[str, list[SpokenUtterance]] = {}
    for row in utterances.to_dict("records"):
        if row["utt_id"] in aligned:
            known = _spoken(root, row, aligned[row["utt_id"]])
            by_corpus.setdefault(row["corpus"], []).append(known)
    if not by_corpus:
        raise HproError(f"{root}/align/words.parquet holds no utterance of this run: align again")
    return by_corpus


def _spoken(root: Path, row: Mapping[Hashable, Any], words: pd.DataFrame) -> SpokenUtterance:
    expected = row["words"].split()
    if words["word"].tolist() != expected:
        raise HproError(
            f"{root}/align/words.parquet: {row['utt_id']} is {' '.join(words['word'])!r}, "
            f"but its transcript is {row['words']!r}: run `hpro align` again"
        )
    return SpokenUtterance(
        utt_id=row["utt_id"],
        speaker=row["speaker"],
        text=row["text"],
        words=tuple(expected),
        spans_s=words[["start_s", "end_s"]].to_numpy(dtype=np.float64),
        audio=root / row["audio"],
    )


def _labels(
    folder: Path, utterances: list[SpokenUtterance], settings: Label, weights: Path
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Posteriors (N, 9) and affect (W, 3) per utterance, columns in the project's order."""
    words: WordVadTeacher
    emotion: EmotionTeacher
    if ExactLabels.known(folder):
        words = emotion = ExactLabels(folder)
        vad = _word_vad(words, utterances)
    else:
        words = WeakWordVad(Lexicon.read(weights), settings.window_words)
        vad = _word_vad(words, utterances)
        affect = {u.utt_id: rows for u, rows in zip(utterances, vad, strict=True)}
        emotion = WeakEmotion(affect, settings.temperature)
    return in_order(emotion.posteriors(utterances), emotion.classes, EMOTIONS), vad


def _word_vad(teacher: WordVadTeacher, utterances: list[SpokenUtterance]) -> list[np.ndarray]:
    return [in_order(rows, teacher.dimensions, VAD) for rows in teacher.word_vad(utterances)]


def _posterior_table(utterances: list[SpokenUtterance], emotion_N9: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame(emotion_N9, columns=list(EMOTIONS))
    table.insert(0, "utt_id", [u.utt_id for u in utterances])
    return table


def _vad_table(utt_id: str, rows_W3: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame(rows_W3, columns=list(VAD))
    table.insert(0, "utt_id", utt_id)
    table.insert(1, "word_index", range(len(rows_W3)))
    return table
