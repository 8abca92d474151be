"""Training of the affect judge on recordings with exact labels. Letters: D features, W words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.evaluate.affect import AffectJudge, Scale, train_emotion, train_vad
from hpro_core.params import Evaluate
from hpro_core.tables import EMOTION_POSTERIORS, WORD_VAD, read_table


@dataclass(frozen=True)
class Features:
    """What was heard of the recordings.

    Attributes:
        rows: utt_id, corpus and split (judge or test).
        utterance: float32 (D,) by utt_id.
        words: float32 (W, D') by utt_id.
    """

    rows: pd.DataFrame
    utterance: dict[str, np.ndarray]
    words: dict[str, np.ndarray]

    def of(self, split: str, among: "dict[str, np.ndarray] | None" = None) -> list[tuple[str, str]]:
        """Pairs of utt_id and corpus of one split, those with a label if `among` is given."""
        rows = self.rows[self.rows["split"] == split]
        pairs = zip(rows["utt_id"], rows["corpus"], strict=True)
        return [(u, corpus) for u, corpus in pairs if among is None or u in among]


@dataclass(frozen=True)
class Labels:
    """Exact labels of recordings, where there are any.

    Attributes:
        posteriors: float (9,) by utt_id.
        vad: float (W, 3) by utt_id.
    """

    posteriors: dict[str, np.ndarray]
    vad: dict[str, np.ndarray]


def labels(root: Path, utterances: pd.DataFrame) -> Labels:
    """Labels that come with a corpus: truth_*.parquet beside its utterances, else its `emotion`.

    The teachers' labels are not read: they are what rewards are made of.
    """
    named = utterances[utterances["emotion"].isin(EMOTIONS)]
    posteriors = {
        utt_id: np.array([float(name == emotion) for name in EMOTIONS])
        for utt_id, emotion in zip(named["utt_id"], named["emotion"], strict=True)
    }
    vad: dict[str, np.ndarray] = {}
    for corpus in utterances["corpus"].unique():
        folder = root / "corpus" / corpus
        if (folder / "truth_emotion.parquet").is_file():
            exact = read_table(folder / "truth_emotion.parquet", EMOTION_POSTERIORS)
            values = exact[list(EMOTIONS)].to_numpy()
            posteriors.update(zip(exact["utt_id"], values, strict=True))
        if (folder / "truth_vad.parquet").is_file():
            vad.update(vad_by_utterance(read_table(folder / "truth_vad.parquet", WORD_VAD)))
    return Labels(posteriors, vad)


def vad_by_utterance(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Float (W, 3) of each utterance, in order, from a WORD_VAD table."""
    ordered = table.sort_values(["utt_id", "word_index"])
    return {str(u): rows[list(VAD)].to_numpy() for u, rows in ordered.groupby("utt_id", sort=False)}


def train_judge(features: Features, known: Labels, settings: Evaluate) -> AffectJudge:
    """Fit both probes on the recordings of the `judge` split that have exact labels.

    Scales come from all its recordings, labelled or not: so a test set without labels (acted
    speech) is at least centred before probes from another one hear it.

    Raises:
        HproError: no recording of the split has an emotion, or none has word labels.
    """
    scales = _scales(features)
    clips = features.of("judge", known.posteriors)
    spoken = features.of("judge", known.vad)
    if not clips or not spoken:
        what = "emotion" if not clips else "valence, arousal and dominance"
        raise HproError(
            f"no utterance of the `judge` split has exact labels of {what}: keep a controlled "
            "corpus in corpus.sets and corpus.judge_share above 0"
        )
    inputs = np.stack([scales[corpus][0](features.utterance[u]) for u, corpus in clips])
    targets = np.stack([known.posteriors[u] for u, _ in clips])
    emotion, classes = train_emotion(inputs, targets, settings.emotion_penalty)
    words = np.concatenate([scales[corpus][1](features.words[u]) for u, corpus in spoken])
    affect = np.concatenate([_word_labels(u, features, known) for u, _ in spoken])
    return AffectJudge(emotion, classes, train_vad(words, affect, settings.vad_penalty), scales)


def _scales(features: Features) -> dict[str, tuple[Scale, Scale]]:
    by_corpus: dict[str, list[str]] = {}
    for utt_id, corpus in features.of("judge"):
        by_corpus.setdefault(corpus, []).append(utt_id)
    return {
        corpus: (
            Scale.of(np.stack([features.utterance[u] for u in ids])),
            Scale.of(np.concatenate([features.words[u] for u in ids])),
        )
        for corpus, ids in by_corpus.items()
    }


def _word_labels(utt_id: str, features: Features, known: Labels) -> np.ndarray:
    n_aligned, n_labelled = len(features.words[utt_id]), len(known.vad[utt_id])
    if n_aligned != n_labelled:
        raise HproError(
            f"{utt_id}: {n_aligned} words in align/words.parquet, but {n_labelled} in "
            "truth_vad.parquet: run `hpro corpus-read` and `hpro align` again"
        )
    return known.vad[utt_id]
