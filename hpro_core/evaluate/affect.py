"""The affect judge: two linear probes on Whisper's encoder and on pitch and level.

Simple on purpose, and independent of the reward: it hears waveforms, was trained on recordings that
nothing else was trained on (split `judge`), and shares no code with the teachers. Letters: N clips,
S encoder states, W words, D features, 9 emotions, 3 valence, arousal and dominance.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.evaluate.asr import STATE_RATE_HZ
from hpro_core.evaluate.prosody import Contours, summary

WINDOW_WORDS = 1
"""Words on each side that the affect of a word is judged with (paper III-A)."""

Span = tuple[float, float]
"""Start and end of a word in seconds."""


@dataclass(frozen=True)
class Sound:
    """What the affect judge hears of one clip."""

    states_SD: np.ndarray  # from Whisper's encoder
    contours: Contours
    duration_s: float

    def utterance_features(self) -> np.ndarray:
        """Float (D,) of the whole clip."""
        whole = summary(self.contours, 0.0, self.duration_s)
        return np.concatenate([_pooled(self.states_SD), whole])

    def word_features(self, spans: Sequence[Span]) -> np.ndarray:
        """Float (W, D): the word, the word with its neighbours, and the prosody of the clip."""
        whole = summary(self.contours, 0.0, self.duration_s)
        return np.stack([self._word(spans, index, whole) for index in range(len(spans))])

    def _word(self, spans: Sequence[Span], index: int, whole: np.ndarray) -> np.ndarray:
        start_s, end_s = spans[index]
        from_s = spans[max(index - WINDOW_WORDS, 0)][0]
        to_s = spans[min(index + WINDOW_WORDS, len(spans) - 1)][1]
        parts = [_pooled(self._states(from_s, to_s)), self._states(start_s, end_s).mean(axis=0)]
        parts += [summary(self.contours, from_s, to_s), summary(self.contours, start_s, end_s)]
        return np.concatenate([*parts, whole])

    def _states(self, start_s: float, end_s: float) -> np.ndarray:
        first = min(int(start_s * STATE_RATE_HZ), len(self.states_SD) - 1)
        return self.states_SD[first : max(round(end_s * STATE_RATE_HZ), first + 1)]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of features over the `judge` recordings of one test set."""

    mean_D: np.ndarray
    deviation_D: np.ndarray

    @classmethod
    def of(cls, features_ND: np.ndarray) -> "Scale":
        """Scale of features (N, D); a feature that never changes keeps its size."""
        deviation_D = features_ND.std(axis=0)
        return cls(features_ND.mean(axis=0), np.where(deviation_D > 1e-6, deviation_D, 1.0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean_D) / self.deviation_D


@dataclass(frozen=True)
class Probe:
    """A linear map, weight (D, outputs) and bias (outputs,)."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weight + self.bias


@dataclass(frozen=True)
class AffectJudge:
    """Both probes; each test set has scales of its own, so that recordings of each are centred.

    Attributes:
        emotion: probe of the logits of `classes`.
        classes: the emotions that were heard in training; all others get probability 0.
        vad: probe of valence, arousal, dominance.
        scales: by test set, of utterance and of word features.
    """

    emotion: Probe
    classes: tuple[str, ...]
    vad: Probe
    scales: dict[str, tuple[Scale, Scale]]

    def posterior(self, corpus: str, features_D: np.ndarray) -> np.ndarray:
        """Emotion posterior of one clip, float (9,) in the order of EMOTIONS."""
        logits = self.emotion(self._scales(corpus)[0](features_D))
        shares = np.exp(logits - logits.max())
        posterior_9 = np.zeros(len(EMOTIONS))
        posterior_9[[EMOTIONS.index(name) for name in self.classes]] = shares / shares.sum()
        return posterior_9

    def word_vad(self, corpus: str, features_WD: np.ndarray) -> np.ndarray:
        """Valence, arousal, dominance of each word, float (W, 3) in [0, 1]."""
        return np.clip(self.vad(self._scales(corpus)[1](features_WD)), 0.0, 1.0)

    def _scales(self, corpus: str) -> tuple[Scale, Scale]:
        if corpus not in self.scales:
            raise HproError(
                f"the affect judge knows no test set {corpus!r}: it has no recording in the "
                "`judge` split; raise corpus.judge_share and run `hpro judge-train`"
            )
        return self.scales[corpus]


def train_emotion(
    features_ND: np.ndarray, posteriors_N9: np.ndarray, strength: float
) -> tuple[Probe, tuple[str, ...]]:
    """Multinomial logistic regression on soft labels: each clip counts for each class by its share.

    Args:
        features_ND: scaled features.
        posteriors_N9: exact labels.
        strength: of the L2 penalty.

    Raises:
        HproError: fewer than two emotions are in the labels.
    """
    from sklearn.linear_model import LogisticRegression

    heard = np.flatnonzero(posteriors_N9.sum(axis=0) > 0)
    if len(heard) < 2:
        raise HproError("the `judge` split has fewer than two emotions: raise corpus.judge_share")
    weights = posteriors_N9[:, heard].T.ravel()
    used = weights > 0
    inputs = np.tile(features_ND, (len(heard), 1))[used]
    targets = np.repeat(heard, len(features_ND))[used]
    model = LogisticRegression(C=1 / strength, max_iter=1000)
    model.fit(inputs, targets, sample_weight=weights[used])
    classes = tuple(EMOTIONS[index] for index in heard)
    if len(heard) == 2:  # scikit-learn keeps one row of logits for two classes
        coefficients = np.concatenate([np.zeros_like(model.coef_), model.coef_])
        return Probe(coefficients.T, np.array([0.0, model.intercept_[0]])), classes
    return Probe(model.coef_.T, model.intercept_), classes


def train_vad(features_ND: np.ndarray, vad_N3: np.ndarray, strength: float) -> Probe:
    """Ridge regression from scaled word features to exact valence, arousal, dominance."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=strength).fit(features_ND, vad_N3)
    return Probe(model.coef_.T, model.intercept_)


def save(judge: AffectJudge, folder: Path) -> None:
    """Write `affect.npz` and `affect.json` (no pickle)."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "emotion.weight": judge.emotion.weight,
        "emotion.bias": judge.emotion.bias,
        "vad.weight": judge.vad.weight,
        "vad.bias": judge.vad.bias,
    }
    for corpus, scales in judge.scales.items():
        for kind, scale in zip(("utterance", "word"), scales, strict=True):
            arrays[f"{corpus}.{kind}.mean"] = scale.mean_D
            arrays[f"{corpus}.{kind}.deviation"] = scale.deviation_D
    partial = folder / ".affect.partial.npz"
    stored = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(partial, allow_pickle=False, **stored)
    os.replace(partial, folder / "affect.npz")
    names = {"classes": judge.classes, "outputs": VAD, "test_sets": sorted(judge.scales)}
    (folder / "affect.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> AffectJudge:
    """Read what `save` wrote.

    Raises:
        HproError: a file is missing or not what `save` writes.
    """
    try:
        names = json.loads((folder / "affect.json").read_text(encoding="utf-8"))
        with np.load(folder / "affect.npz", allow_pickle=False) as arrays:
            return AffectJudge(
                emotion=Probe(arrays["emotion.weight"], arrays["emotion.bias"]),
                classes=tuple(names["classes"]),
                vad=Probe(arrays["vad.weight"], arrays["vad.bias"]),
                scales={c: _stored_scales(arrays, c) for c in names["test_sets"]},
            )
    except (OSError, KeyError, ValueError) as error:
        raise HproError(
            f"{folder} holds no affect judge ({error}): run `hpro judge-train`"
        ) from error


def _stored_scales(arrays: "np.lib.npyio.NpzFile", corpus: str) -> tuple[Scale, Scale]:
    utterance, word = (
        Scale(arrays[f"{corpus}.{kind}.mean"], arrays[f"{corpus}.{kind}.deviation"])
        for kind in ("utterance", "word")
    )
    return utterance, word


def _pooled(states_SD: np.ndarray) -> np.ndarray:
    return np.concatenate([states_SD.mean(axis=0), states_SD.std(axis=0)])
