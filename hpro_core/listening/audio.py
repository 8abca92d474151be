"""Clips of a listening test: loudness, low anchor, attention checks, files.

All audio is float (T,), mono at `SAMPLE_RATE_HZ`, in [-1, 1].
"""

import io
from collections.abc import Mapping

import numpy as np
import soundfile
from scipy import signal
from scipy.linalg import solve_toeplitz

from hpro_core.constants import SAMPLE_RATE_HZ

TARGET_LUFS = -26.0
"""Loudness of all clips (ours; 3 LU below the -23 LUFS of EBU R 128, so that speech, which has
higher peaks than broadcast programmes, is seldom limited by `PEAK`)."""

PEAK = 10 ** (-1 / 20)
"""Largest sample after levelling, -1 dB of full scale."""

ANCHOR_F0_HZ = 100.0
"""Constant pitch of the low anchor."""

ANCHOR_CUTOFF_HZ = 3500.0
"""Upper cut-off frequency of the low anchor (that of ITU-R BS.1534-3)."""

ANCHOR_FLOOR = 0.01
"""Level of a frame of the low anchor that becomes silent, as a fraction of the loudest frame's."""

LPC_ORDER = 16
_FRAME, _HOP = 512, 128  # 32 and 8 ms

TONE_HZ = 880.0
_TONE_S, _GAP_S, _BEFORE_S = 0.15, 0.3, 0.6
_TONE_PEAK = 0.15

_BLOCK_S, _STEP_S = 0.4, 0.1
_ABSOLUTE_LUFS, _RELATIVE_LU = -70.0, -10.0
_OFFSET_LU = -0.691


def loudness_lufs(samples_T: np.ndarray) -> float:
    """Measure integrated loudness by ITU-R BS.1770-4: K-weighting, then two gates.

    A clip shorter than one block of 0.4 s is one block. -inf for a clip without a block above the
    absolute gate of -70 LUFS.
    """
    weighted_T = samples_T.astype(np.float64)
    for numerator, denominator in _k_weighting():
        weighted_T = signal.lfilter(numerator, denominator, weighted_T)
    size, step = round(_BLOCK_S * SAMPLE_RATE_HZ), round(_STEP_S * SAMPLE_RATE_HZ)
    starts = range(0, max(1, len(weighted_T) - size + 1), step)
    power = np.array([np.mean(weighted_T[start : start + size] ** 2) for start in starts])
    power = power[power > 10 ** ((_ABSOLUTE_LUFS - _OFFSET_LU) / 10)]
    if not len(power):
        return float("-inf")
    gate = power.mean() * 10 ** (_RELATIVE_LU / 10)
    return float(_OFFSET_LU + 10 * np.log10(power[power > gate].mean()))


def _k_weighting() -> list[tuple[np.ndarray, np.ndarray]]:
    """The two filters of BS.1770 at `SAMPLE_RATE_HZ`.

    The standard gives coefficients for 48 kHz only. These are its analogue prototypes, a shelf of
    +4 dB at 1.68 kHz and a high-pass at 38 Hz, under the bilinear transform.
    """
    tangent, quality = np.tan(np.pi * 1681.974450955533 / SAMPLE_RATE_HZ), 0.7071752369554196
    high, band = 10 ** (3.999843853973347 / 20), 10 ** (3.999843853973347 * 0.4996667741545416 / 20)
    scale = 1 + tangent / quality + tangent**2
    shelf = np.array([
        high + band * tangent / quality + tangent**2,
        2 * (tangent**2 - high),
        high - band * tangent / quality + tangent**2,
    ])  # fmt: skip
    shelf_below = np.array([scale, 2 * (tangent**2 - 1), 1 - tangent / quality + tangent**2])
    tangent, quality = np.tan(np.pi * 38.13547087602444 / SAMPLE_RATE_HZ), 0.5003270373238773
    scale_high = 1 + tangent / quality + tangent**2
    pass_below = np.array([scale_high, 2 * (tangent**2 - 1), 1 - tangent / quality + tangent**2])
    return [
        (shelf / scale, shelf_below / scale),
        (np.array([1.0, -2.0, 1.0]), pass_below / scale_high),
    ]


def levelled(clips: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    """Scale clips to one loudness.

    It is `TARGET_LUFS`, or the highest loudness at which no clip exceeds `PEAK`: a limiter would
    change the sound. Silent clips stay as they are.

    Returns:
        The clips, and their loudness.
    """
    found = {name: loudness_lufs(clip) for name, clip in clips.items()}
    target = TARGET_LUFS
    for name, clip in clips.items():
        if np.isfinite(found[name]):
            target = min(target, found[name] + 20 * np.log10(PEAK / np.abs(clip).max()))
    gains = {name: 10 ** ((target - lufs) / 20) for name, lufs in found.items()}
    return {
        name: clip * gains[name] if np.isfinite(found[name]) else clip
        for name, clip in clips.items()
    }, float(target)


def low_anchor(samples_T: np.ndarray) -> np.ndarray:
    """Make the low anchor of a recording: a buzzing monotone below 3.5 kHz (ours).

    The low-pass filter of BS.1534 alone leaves the emotion of a recording intact, and noise its
    intonation. Here linear prediction (order 16) of each frame filters a pulse train of constant
    pitch, the range of levels in decibels is halved, and frames below `ANCHOR_FLOOR` are silent:
    the words and their timing stay; pitch, stress and voice quality do not. The result is low on
    naturalness and on expressiveness (docs/listening.md, "Low anchor").
    """
    period = round(SAMPLE_RATE_HZ / ANCHOR_F0_HZ)
    pulses = np.zeros(len(samples_T) + _FRAME)
    pulses[::period] = np.sqrt(period)  # power 1
    padded = np.pad(samples_T.astype(np.float64), (_FRAME // 2, _FRAME))
    window = signal.get_window("hann", _FRAME)
    starts = range(0, len(samples_T), _HOP)
    predicted = [_predict(padded[start : start + _FRAME] * window) for start in starts]
    loudest = max(gain for _, gain in predicted)
    out = np.zeros(len(padded) + _FRAME)
    for start, (predictor, gain) in zip(starts, predicted, strict=True):
        if gain <= ANCHOR_FLOOR * loudest:
            continue
        level = np.sqrt(gain * loudest)  # half of the decibels below the loudest frame
        excitation = np.pad(pulses[start : start + _FRAME] * window * level, (0, _FRAME))
        out[start : start + 2 * _FRAME] += signal.lfilter([1.0], [1.0, *-predictor], excitation)
    low = signal.butter(8, ANCHOR_CUTOFF_HZ, fs=SAMPLE_RATE_HZ, output="sos")
    spoken = signal.sosfiltfilt(low, out[_FRAME // 2 :][: len(samples_T)])
    return spoken / max(1.0, np.abs(spoken).max())


def _predict(frame: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients of linear prediction of a windowed frame, and the level of its residual."""
    correlation = np.correlate(frame, frame, "full")[_FRAME - 1 :][: LPC_ORDER + 1]
    if correlation[0] <= 1e-9:
        return np.zeros(LPC_ORDER), 0.0
    correlation[0] *= 1 + 1e-4  # white-noise correction, -40 dB
    predictor = solve_toeplitz(correlation[:-1], correlation[1:])
    squared = correlation[0] - predictor @ correlation[1:]
    return predictor, float(np.sqrt(max(squared, 0.0) / _FRAME))


def with_tones(samples_T: np.ndarray, n_tones: int) -> np.ndarray:
    """Append a pause and `n_tones` tones: an attention check. 0 tones: the clip as it is."""
    if not n_tones:
        return samples_T
    time_T = np.arange(round(_TONE_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = _TONE_PEAK * np.sin(2 * np.pi * TONE_HZ * time_T)
    tone *= signal.get_window(("tukey", 0.2), len(tone))  # no click
    gap = np.zeros(round(_GAP_S * SAMPLE_RATE_HZ))
    before = np.zeros(round((_BEFORE_S - _GAP_S) * SAMPLE_RATE_HZ))
    return np.concatenate(
        [samples_T, before, *(part for _ in range(n_tones) for part in (gap, tone))]
    )


def flac(samples_T: np.ndarray) -> bytes:
    """Encode a clip as 16-bit FLAC, which is lossless and plays in all current browsers."""
    content = io.BytesIO()
    soundfile.write(content, samples_T, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return content.getvalue()
