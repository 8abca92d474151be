"""Prosody of a synthesis against the recording of its sentence: words and pauses.

Correlations are over the words of an utterance, so that neither the level of a channel nor the
register of a voice counts. Letters: T samples, F frames, W words, G gaps between words, 3 the mean
F0 in semitones, the mean level in dB and the logarithm of phones per second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hpro_core.errors import HproError
from hpro_core.judges.prosody import FRAME_RATE_HZ, contours
from hpro_core.text.phones import phones_of

CORRELATIONS = ("f0_corr", "energy_corr", "rate_corr")
"""Columns of SCORES, in the order of the values of a word."""

PAUSES = ("n_pauses_both", "n_pauses_synthesis", "n_pauses_recording")
"""Columns of SCORES with numbers of pauses."""

PAUSE_S = 0.15
"""Shortest gap between two words that is a pause (ours): closures of plosives are shorter."""

MIN_WORDS = 3
"""Fewest words of a correlation (ours): over two words it is 1 or -1."""

_CONSTANT = 1e-9  # smallest standard deviation of a series that is not constant


class SpokenWords(NamedTuple):
    """Prosody of the words of one clip."""

    values_W3: np.ndarray  # NaN: no voiced frame (F0), no frame (F0, level), unknown phones (rate)
    pauses_G: np.ndarray  # bool: a pause after each word but the last


def spoken_words(audio_T: np.ndarray, spans_W2: np.ndarray, words: Sequence[str]) -> SpokenWords:
    """Measure the words of a clip, float (T,), 16 kHz.

    The rate is per phone, so that the correlation over words does not reflect that long words take
    longer.

    Args:
        audio_T: samples of the clip.
        spans_W2: start and end of each word in seconds.
        words: normalised words.
    """
    sound = contours(audio_T)
    values = []
    for (start_s, end_s), word in zip(spans_W2, words, strict=True):
        frames = slice(_frame(start_s), _frame(end_s))
        pitch_F, level_F = sound.pitch_st_F[frames], sound.level_db_F[frames]
        rate = np.log(_n_phones(word) / (end_s - start_s))
        values.append([_mean(pitch_F[np.isfinite(pitch_F)]), _mean(level_F), rate])
    # A margin of a nanosecond, since times are rounded: 15 frames of 10 ms are no pause.
    pauses_G = spans_W2[1:, 0] - spans_W2[:-1, 1] > PAUSE_S + 1e-9
    return SpokenWords(np.array(values).reshape(-1, 3), pauses_G)


def agreement(recording: SpokenWords, synthesis: SpokenWords | None) -> dict[str, float | None]:
    """Compute the columns CORRELATIONS and PAUSES of an utterance.

    Args:
        recording: the words of the recording.
        synthesis: the same words in the synthesis; None if the aligner did not find them. Then only
            the number of pauses in the recording has a value.

    Returns:
        Pearson correlation over the words that have a value in both, None with fewer than MIN_WORDS
        or if one series is constant. Number of pauses at the same place in both, in the synthesis,
        in the recording.
    """
    n_recording = int(recording.pauses_G.sum())
    if synthesis is None:
        return {**dict.fromkeys((*CORRELATIONS, *PAUSES)), "n_pauses_recording": n_recording}
    pairs = zip(recording.values_W3.T, synthesis.values_W3.T, strict=True)
    n_both = int((recording.pauses_G & synthesis.pauses_G).sum())
    return {
        **dict(zip(CORRELATIONS, (_correlation(*pair) for pair in pairs), strict=True)),
        "n_pauses_both": n_both,
        "n_pauses_synthesis": int(synthesis.pauses_G.sum()),
        "n_pauses_recording": n_recording,
    }


def _correlation(first_W: np.ndarray, second_W: np.ndarray) -> float | None:
    both_W = np.isfinite(first_W) & np.isfinite(second_W)
    first_W, second_W = first_W[both_W], second_W[both_W]
    if len(first_W) < MIN_WORDS or min(first_W.std(), second_W.std()) < _CONSTANT:
        return None
    return float(np.clip(np.corrcoef(first_W, second_W)[0, 1], -1.0, 1.0))  # rounding


def _frame(time_s: float) -> int:
    """First frame whose centre is not before a time."""
    return int(np.ceil(time_s * FRAME_RATE_HZ - 1e-6))


def _mean(values_F: np.ndarray) -> float:
    return float(values_F.mean()) if len(values_F) else float("nan")


def _n_phones(word: str) -> float:
    """Number of phones; NaN for a word without a pronunciation."""
    try:
        return len(phones_of(word))
    except HproError:
        return float("nan")
