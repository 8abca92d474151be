"""Energy-based correction of word boundaries next to silence (ours).

pocketsphinx models silence as one stationary sound. It assigns weak word ends (a final fricative, a
released stop, a fading vowel) to silence, and the closure of a stop to the pause before it. The
short-time level corrects both: words at the edges of the utterance extend to the limits of the
sound, pauses shrink to their quiet core, and a pause without a quiet core is removed.

The constants were tuned on 415 clips of *Flight of the Amazon Queen* against boundaries of the
Montreal Forced Aligner; docs/alignment.md has the figures on held-out clips.
"""

from dataclasses import dataclass, replace

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ

WINDOW_S = 0.020
HOP_S = 0.005
BELOW_PEAK_DB = 35.0
"""Frames less than this below the loud frames (95th percentile) of the utterance are sound."""
ABOVE_FLOOR_DB = 1.0
"""Sound must also exceed the stationary background noise by this much."""
DIGITAL_SILENCE_DB = -75.0
"""Frames below this are padding and are excluded from the estimate of the background noise."""
PAUSE_BELOW_PEAK_DB = 24.0
"""The quiet core of a pause is at least this far below the loud frames."""
MIN_CONTRAST_DB = 18.0
"""Smallest distance of the quietest frames to the loud ones; below it, background noise masks the
ends of sound."""
EDGE_GAP_S = 0.10
"""Longest quiet stretch (a stop closure) inside the first or the last word."""
MIN_PAUSE_S = 0.05
"""A shorter quiet core is a closure, not a pause."""
MIN_WORD_S = 0.03
"""Shortest word: three frames of the aligner."""
STOPS = frozenset(("P", "T", "K", "B", "D", "G", "CH", "JH"))
"""Phones that begin with a silent closure."""


@dataclass(frozen=True)
class Phone:
    """One phone in time, ARPAbet without stress."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class RawWord:
    """A word with the acoustic model's boundaries, phones and score."""

    word: str
    start_s: float
    end_s: float
    score: float
    phones: tuple[Phone, ...]


def refine(words: list[RawWord], audio: np.ndarray) -> list[RawWord]:
    """Move the boundaries next to silence to the start and end of sound.

    Args:
        words: words of one utterance, in order, not overlapping.
        audio: float (T,), 16 kHz.

    Returns:
        The same words with new times; phones are unchanged. Words are unchanged if the contrast
        between sound and background is below `MIN_CONTRAST_DB`.
    """
    levels_db = frame_levels_db(audio)
    peak_db = float(np.percentile(levels_db, 95))
    if peak_db - np.percentile(_without_padding(levels_db), 2) < MIN_CONTRAST_DB:
        return words
    words = _shrink_pauses(words, levels_db > peak_db - PAUSE_BELOW_PEAK_DB)
    sound = np.flatnonzero(levels_db > _sound_threshold_db(levels_db, peak_db))
    duration_s = len(audio) / SAMPLE_RATE_HZ
    first = words[0]
    start_s = min(_first_sound_s(sound, _middle_s(first.phones[0])), first.end_s - MIN_WORD_S)
    words[0] = replace(first, start_s=max(start_s, 0.0))
    last = words[-1]
    end_s = min(_last_sound_s(sound, _middle_s(last.phones[-1])), duration_s)
    words[-1] = replace(last, end_s=max(end_s, last.start_s + MIN_WORD_S))
    return words


def frame_levels_db(audio: np.ndarray) -> np.ndarray:
    """Level of 20 ms windows every 5 ms, float (T // 80 + 1,), dB relative to full scale."""
    window, hop = round(WINDOW_S * SAMPLE_RATE_HZ), round(HOP_S * SAMPLE_RATE_HZ)
    padded = np.pad(audio.astype(np.float64), window // 2)
    energy = np.concatenate([[0.0], np.cumsum(padded**2)])
    first = np.arange(0, len(audio) + 1, hop)
    power = np.maximum(energy[first + window] - energy[first], 0.0) / window
    return 10 * np.log10(power + 1e-12)


def _sound_threshold_db(levels_db: np.ndarray, peak_db: float) -> float:
    """Level above which a frame is sound; limited so that a loud background keeps the words."""
    floor_db = float(np.percentile(_without_padding(levels_db), 10))
    threshold_db = max(peak_db - BELOW_PEAK_DB, floor_db + ABOVE_FLOOR_DB)
    return min(threshold_db, peak_db - PAUSE_BELOW_PEAK_DB)


def _without_padding(levels_db: np.ndarray) -> np.ndarray:
    """The frames that are not padding; all frames if the whole recording is below the limit."""
    is_alive = levels_db > DIGITAL_SILENCE_DB
    return levels_db[is_alive] if is_alive.any() else levels_db


def _middle_s(phone: Phone) -> float:
    return (phone.start_s + phone.end_s) / 2


def _first_sound_s(sound: np.ndarray, anchor_s: float) -> float:
    """Start of the sound that contains the anchor; gaps up to `EDGE_GAP_S` are bridged."""
    at = int(np.searchsorted(sound, anchor_s / HOP_S, side="right")) - 1
    if at < 0:
        return float(sound[0]) * HOP_S
    while at > 0 and (sound[at] - sound[at - 1]) * HOP_S <= EDGE_GAP_S:
        at -= 1
    return float(sound[at]) * HOP_S


def _last_sound_s(sound: np.ndarray, anchor_s: float) -> float:
    """End of the sound that contains the anchor; gaps up to `EDGE_GAP_S` are bridged."""
    at = min(int(np.searchsorted(sound, anchor_s / HOP_S)), len(sound) - 1)
    while at < len(sound) - 1 and (sound[at + 1] - sound[at]) * HOP_S <= EDGE_GAP_S:
        at += 1
    return float(sound[at]) * HOP_S


def _shrink_pauses(words: list[RawWord], loud: np.ndarray) -> list[RawWord]:
    """Shrink every pause to its quiet core, and remove pauses without one."""
    words = list(words)
    for i in range(len(words) - 1):
        before, after = words[i], words[i + 1]
        if after.start_s <= before.end_s:
            continue
        start_s, end_s = _quiet_core_s(loud, before.end_s, after.start_s)
        if end_s - start_s < MIN_PAUSE_S:
            is_stop = after.phones[0].name in STOPS
            start_s = end_s = start_s if is_stop else (start_s + end_s) / 2
        words[i] = replace(before, end_s=start_s)
        words[i + 1] = replace(after, start_s=end_s)
    return words


def _quiet_core_s(loud: np.ndarray, start_s: float, end_s: float) -> tuple[float, float]:
    """Start and end of the longest quiet stretch of a pause; its middle twice if there is none."""
    first = round(start_s / HOP_S)
    quiet = np.flatnonzero(~loud[first : round(end_s / HOP_S) + 1])
    if not len(quiet):
        return (start_s + end_s) / 2, (start_s + end_s) / 2
    core = max(np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1), key=len)
    return (
        max(start_s, (first + float(core[0])) * HOP_S),
        min(end_s, (first + float(core[-1])) * HOP_S),
    )
