"""Interface of the published teachers, and the tables of labels.

Letters: N utterance, W word of an utterance, C class or affect dimension of a teacher's output.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.tables import EMOTION_POSTERIORS, WORD_VAD, empty


@dataclass(frozen=True)
class AlignedUtterance:
    """One aligned utterance, the input of teachers."""

    utt_id: str
    speaker: str  # unique within the corpus
    text: str  # as published, with punctuation
    words: tuple[str, ...]
    spans_s: np.ndarray  # float64 (W, 2), start and end of each word in seconds
    audio: Path  # 16 kHz mono WAV


Read = Callable[[AlignedUtterance], np.ndarray]
"""Function that returns the samples of an utterance, float32 (T,), 16 kHz."""


class Identified(Protocol):
    """A published model whose result for an utterance does not depend on the other utterances."""

    identity: dict[str, object]
    """Everything that the results depend on besides the utterances, such as hashes of weights."""


class EmotionTeacher(Identified, Protocol):
    """Predicts emotion posteriors of utterances (paper: emotion2vec_plus_large)."""

    classes: tuple[str, ...]
    """Names of the output columns: the names of EMOTIONS in any order."""

    def posteriors(self, utterances: Sequence[AlignedUtterance]) -> np.ndarray:
        """Predict posteriors, float (N, C); each row sums to one."""
        ...


class WordVadTeacher(Identified, Protocol):
    """Predicts the affect of each word (paper: audeering's wav2vec2 on a window of words)."""

    dimensions: tuple[str, ...]
    """Names of the output columns: the names of VAD in any order."""

    def word_vad(self, utterances: Sequence[AlignedUtterance]) -> list[np.ndarray]:
        """Predict the affect of the words of each utterance, float (W, C) in [0, 1]."""
        ...


def reorder(values: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Permute columns, float (..., C), from the order of the names `names` to that of `wanted`.

    Raises:
        HproError: the two sets of names differ.
    """
    if sorted(names) != sorted(wanted):
        raise HproError(f"a teacher outputs {', '.join(names)}, but {', '.join(wanted)} are needed")
    return values[..., [list(names).index(name) for name in wanted]]


def word_windows(n_words: int, context_words: int) -> np.ndarray:
    """Compute the window of words around each word (paper: one word on each side).

    Args:
        n_words: number of words of the utterance.
        context_words: number of words on each side; windows are cut at the ends of the utterance.

    Returns:
        int64 (n_words, 2), first and one-past-last word of each window.
    """
    word_W = np.arange(n_words)
    return np.stack(
        [np.maximum(word_W - context_words, 0), np.minimum(word_W + context_words + 1, n_words)],
        axis=1,
    )


def posterior_table(posteriors: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Build an EMOTION_POSTERIORS table from utt_id -> posterior, float (9,)."""
    if not posteriors:
        return empty(EMOTION_POSTERIORS)
    table = pd.DataFrame(np.stack(list(posteriors.values())), columns=list(EMOTIONS))
    return table.assign(utt_id=list(posteriors))


def vad_table(vad: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Build a WORD_VAD table from utt_id -> valence, arousal, dominance of words, float (W, 3)."""
    if not vad:
        return empty(WORD_VAD)
    return pd.concat(
        pd.DataFrame(vad_W3, columns=list(VAD)).assign(utt_id=u, word_index=range(len(vad_W3)))
        for u, vad_W3 in vad.items()
    )
