"""Prosody of words against constructed signals and an independent computation."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.judges.word_prosody import (
    CORRELATIONS,
    MIN_WORDS,
    SpokenWords,
    agreement,
    spoken_words,
)

WORDS = ("the", "happy", "dog", "ran", "home")
PHONES = (2, 4, 3, 3, 3)


def speech(
    f0_hz: Sequence[float],
    level: Sequence[float],
    duration_s: Sequence[float],
    gap_s: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Words as tones of three harmonics with silence between; samples and word times."""
    parts, spans, at_s = [np.zeros(1600)], [], 0.1
    for f0, amplitude, duration, gap in zip(f0_hz, level, duration_s, (*gap_s, 0.1), strict=True):
        time_s = np.arange(round(duration * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        tone = sum(np.sin(2 * np.pi * f0 * k * time_s) / k for k in (1, 2, 3))
        parts += [amplitude * tone, np.zeros(round(gap * SAMPLE_RATE_HZ))]
        spans.append((at_s, at_s + duration))
        at_s += duration + gap
    return np.concatenate(parts).astype(np.float32), np.array(spans)


RECORDING = speech(
    (110, 140, 125, 180, 100), (0.1, 0.2, 0.15, 0.3, 0.05), (0.2, 0.4, 0.3, 0.25, 0.5),
    (0.0, 0.2, 0.1, 0.3),
)  # fmt: skip
SYNTHESIS = speech(
    (220, 260, 270, 300, 210), (0.2, 0.25, 0.2, 0.2, 0.1), (0.3, 0.4, 0.25, 0.3, 0.4),
    (0.2, 0.25, 0.0, 0.1),
)  # fmt: skip


def test_values_of_known_words() -> None:
    audio_T, spans_W2 = RECORDING
    found = spoken_words(audio_T, spans_W2, WORDS)
    pitch_W = 12 * np.log2(np.array((110, 140, 125, 180, 100)) / 100)
    assert found.values_W3[:, 0] == pytest.approx(pitch_W, abs=0.2)
    power_W = np.array((0.1, 0.2, 0.15, 0.3, 0.05)) ** 2 * (1 + 1 / 4 + 1 / 9) / 2
    # Frames of 40 ms at both ends of a word are half silent or in the next word.
    assert found.values_W3[:, 1] == pytest.approx(10 * np.log10(power_W), abs=0.6)
    rate_W = np.log(np.array(PHONES) / np.array((0.2, 0.4, 0.3, 0.25, 0.5)))
    assert found.values_W3[:, 2] == pytest.approx(rate_W, abs=1e-6)
    assert found.pauses_G.tolist() == [False, True, False, True]


def test_agreement_equals_scipys_correlation_of_the_known_values() -> None:
    found = agreement(*(spoken_words(*made, WORDS) for made in (RECORDING, SYNTHESIS)))
    expected = {
        "f0_corr": ((110, 140, 125, 180, 100), (220, 260, 270, 300, 210)),
        "energy_corr": ((0.1, 0.2, 0.15, 0.3, 0.05), (0.2, 0.25, 0.2, 0.2, 0.1)),
    }
    for name, series in expected.items():  # semitones and dB are logarithms
        assert found[name] == pytest.approx(scipy.stats.pearsonr(*np.log(series))[0], abs=0.02)
    seconds = np.array([(0.2, 0.4, 0.3, 0.25, 0.5), (0.3, 0.4, 0.25, 0.3, 0.4)])
    rate = scipy.stats.pearsonr(*np.log(seconds / PHONES))[0]
    assert found["rate_corr"] == pytest.approx(rate, abs=1e-6)
    # Pauses after words 2 and 4, and after words 1 and 2: one at the same place.
    assert [found[f"n_pauses_{of}"] for of in ("both", "synthesis", "recording")] == [1, 2, 2]


def test_a_recording_agrees_with_itself_at_any_level() -> None:
    audio_T, spans_W2 = RECORDING
    pair = (spoken_words(loud * audio_T, spans_W2, WORDS) for loud in (1.0, 0.5))
    found = agreement(*pair)
    assert [found[name] for name in CORRELATIONS] == pytest.approx([1.0] * 3, abs=1e-3)
    assert [found[f"n_pauses_{of}"] for of in ("both", "synthesis", "recording")] == [2, 2, 2]


def test_a_gap_of_the_limit_is_no_pause() -> None:
    for gap_s, pause in ((0.15, False), (0.16, True)):
        spans_W2 = np.array([(0.13, 0.31), (0.31 + gap_s, 0.9)])
        found = spoken_words(np.zeros(SAMPLE_RATE_HZ, np.float32), spans_W2, WORDS[:2])
        assert found.pauses_G.tolist() == [pause]


def words_of(values: Sequence[Sequence[float]]) -> SpokenWords:
    """Words with given values, without pauses."""
    return SpokenWords(np.array(values), np.zeros(len(values) - 1, bool))


def test_what_has_no_correlation_is_null() -> None:
    rising = words_of([(w, w, w) for w in range(4)])
    nothing = float("nan")
    one_missing = words_of([(w, w, 3.0) for w in range(3)] + [(nothing, 3, 3.0)])
    found = agreement(rising, one_missing)
    assert (found["f0_corr"], found["energy_corr"]) == (pytest.approx(1), pytest.approx(1))
    assert found["rate_corr"] is None  # constant
    short = words_of([(w, w, w) for w in range(MIN_WORDS - 1)])
    assert [agreement(short, short)[name] for name in CORRELATIONS] == [None] * 3


def test_words_that_the_aligner_does_not_find() -> None:
    found = agreement(spoken_words(*RECORDING, WORDS), None)
    assert found["n_pauses_recording"] == 2
    assert all(value is None for name, value in found.items() if name != "n_pauses_recording")


def test_silence_and_one_word() -> None:
    silent = np.zeros(SAMPLE_RATE_HZ, np.float32)
    found = spoken_words(silent, np.array([(0.1, 0.5)]), ("home",))
    assert np.isnan(found.values_W3[0, 0])
    assert found.values_W3[0, 1] == pytest.approx(-80)
    assert found.pauses_G.shape == (0,)
    one = agreement(found, found)
    assert one["f0_corr"] is None
    assert one["n_pauses_both"] == 0
