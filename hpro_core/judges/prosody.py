"""Pitch and level for the affect judge. Letters: T samples, F frames, K samples of a frame, L lags.

The weak teacher has its own implementation in hpro_core/label. The two share no code, so that the
judge is independent of the labels that the rewards are trained on.
"""

from typing import NamedTuple

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ

FRAME_RATE_HZ = 100
_FRAME = 640  # samples; 40 ms, three periods of 75 Hz
_MIN_HZ, _MAX_HZ = 75, 500
_VOICED = 0.45  # minimum autocorrelation of a voiced frame (Boersma 1993)
_OCTAVE_COST = 0.01  # per octave, in favour of higher pitch (Boersma 1993)
_QUIET_DB = 35.0  # frames more than this below the loudest are unvoiced


class Contours(NamedTuple):
    """Pitch and level contours of one clip at FRAME_RATE_HZ."""

    pitch_st_F: np.ndarray  # semitones re 100 Hz, NaN where unvoiced
    level_db_F: np.ndarray  # dB re full scale, at least -80


def contours(audio_T: np.ndarray) -> Contours:
    """Estimate pitch and level of each frame of a clip, float (T,), 16 kHz.

    Pitch is the peak of the window-corrected autocorrelation (Boersma 1993), without path finding.
    """
    padded_T = np.pad(audio_T.astype(np.float64), _FRAME // 2)
    hop = SAMPLE_RATE_HZ // FRAME_RATE_HZ
    frames_FK = np.lib.stride_tricks.sliding_window_view(padded_T, _FRAME)[::hop]
    level_db_F = 10 * np.log10(np.mean(frames_FK**2, axis=1) + 1e-8)
    strength_FL = _autocorrelation(frames_FK)
    lag_L = np.arange(strength_FL.shape[1])
    usable = (lag_L >= SAMPLE_RATE_HZ / _MAX_HZ) & (lag_L <= SAMPLE_RATE_HZ / _MIN_HZ)
    cost_L = np.where(usable, _OCTAVE_COST * np.log2(np.maximum(lag_L, 1)), np.inf)
    best_F = np.argmax(strength_FL - cost_L, axis=1)
    voiced_F = strength_FL[np.arange(len(best_F)), best_F] > _VOICED
    voiced_F &= level_db_F > max(level_db_F.max() - _QUIET_DB, -60.0)
    pitch_st_F = 12 * np.log2(SAMPLE_RATE_HZ / best_F / 100)
    return Contours(np.where(voiced_F, pitch_st_F, np.nan), level_db_F)


def _autocorrelation(frames_FK: np.ndarray) -> np.ndarray:
    """Autocorrelation of windowed frames divided by that of the window, 1 at lag 0; (F, L)."""
    window_K = np.hanning(_FRAME)
    n_lags = SAMPLE_RATE_HZ // _MIN_HZ + 2
    centred_FK = (frames_FK - frames_FK.mean(axis=1, keepdims=True)) * window_K
    raw_FL = _raw_autocorrelation(centred_FK)[:, :n_lags]
    window_L = _raw_autocorrelation(window_K[None])[0, :n_lags]
    return raw_FL / (raw_FL[:, :1] + 1e-10) / (window_L / window_L[0])


def _raw_autocorrelation(frames_FK: np.ndarray) -> np.ndarray:
    return np.fft.irfft(np.abs(np.fft.rfft(frames_FK, 2 * _FRAME)) ** 2)
