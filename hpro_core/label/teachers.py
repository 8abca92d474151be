"""What a teacher gets and gives: the interface that embedded and large models share.

Letters: N utterances, W words of an utterance, C classes or dimensions that a teacher puts out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hpro_core.errors import HproError


@dataclass(frozen=True)
class SpokenUtterance:
    """One aligned utterance, as teachers see it."""

    utt_id: str
    speaker: str  # unique within the corpus
    text: str  # as published, with punctuation
    words: tuple[str, ...]
    spans_s: np.ndarray  # float64 (W, 2), start and end of each word
    audio: Path  # 16 kHz mono WAV


Read = Callable[[SpokenUtterance], np.ndarray]
"""Gives the samples of an utterance, float32 (T,), 16 kHz."""


class EmotionTeacher(Protocol):
    """Utterances to class posteriors (paper: emotion2vec_plus_large)."""

    classes: tuple[str, ...]
    """Names of the columns that it puts out, any order; exactly the names of EMOTIONS."""

    def posteriors(self, utterances: Sequence[SpokenUtterance]) -> np.ndarray:
        """Float (N, C), each row sums to one."""
        ...


class WordVadTeacher(Protocol):
    """Utterances to affect per word (paper: audeering wav2vec2 on a window of words)."""

    dimensions: tuple[str, ...]
    """Names of the columns that it puts out, any order; exactly the names of VAD."""

    def word_vad(self, utterances: Sequence[SpokenUtterance]) -> list[np.ndarray]:
        """For each utterance float (W, C) in [0, 1]."""
        ...


def in_order(values: np.ndarray, have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """Permute the columns of a teacher into the project's order.

    Raises:
        HproError: the teacher's names are not the names that are wanted.
    """
    if sorted(have) != sorted(want):
        raise HproError(f"a teacher puts out {', '.join(have)}, but {', '.join(want)} are needed")
    return values[..., [list(have).index(name) for name in want]]


def word_windows(n_words: int, reach: int) -> np.ndarray:
    """First and one-past-last word of the window around each word (paper: one word either side).

    Args:
        n_words: words of the utterance.
        reach: words to either side; windows are cut at the ends of the utterance.

    Returns:
        int64 (n_words, 2).
    """
    word_W = np.arange(n_words)
    return np.stack(
        [np.maximum(word_W - reach, 0), np.minimum(word_W + reach + 1, n_words)], axis=1
    )
