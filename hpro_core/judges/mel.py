"""Mel spectrograms equal to librosa's `feature.melspectrogram`, without its slow imports.

The first call of librosa's function imports numba and scipy.

Letters: T samples, C mel channels, F frames, K bins of a spectrum.
"""

import functools

import numpy as np
import torch

from hpro_core.constants import SAMPLE_RATE_HZ


def mel_spectrogram(
    audio_T: np.ndarray,
    n_fft: int,
    window: int,
    hop: int,
    n_mels: int,
    power: float,
    max_hz: float = SAMPLE_RATE_HZ / 2,
    pad_mode: str = "constant",
) -> np.ndarray:
    """Compute a mel spectrogram with centred frames; both ends are padded.

    Args:
        audio_T: float32 (T,), 16 kHz.
        n_fft: FFT length in samples.
        window: length of the Hann window in samples, centred in the FFT frame.
        hop: hop length in samples.
        n_mels: number of mel channels.
        power: exponent of the amplitudes: 1 or 2.
        max_hz: upper end of the last channel; channels above half the sample rate are 0.
        pad_mode: how the ends are padded: zeros (constant) or reflected.

    Returns:
        float32 (C, F).
    """
    spectrum_KF = torch.stft(
        torch.from_numpy(audio_T),
        n_fft,
        hop,
        window,
        torch.hann_window(window),
        pad_mode=pad_mode,
        return_complex=True,
    )
    return (
        torch.from_numpy(mel_filters(n_fft, n_mels, max_hz)) @ spectrum_KF.abs() ** power
    ).numpy()


@functools.cache
def mel_filters(n_fft: int, n_mels: int, max_hz: float = SAMPLE_RATE_HZ / 2) -> np.ndarray:
    """Slaney mel filter bank: triangles of unit area from 0 Hz to `max_hz`, float32 (C, K)."""
    edges = np.linspace(0.0, _mel(max_hz), n_mels + 2)
    edges_hz = np.where(edges < 15, edges * 200 / 3, 1000 * 6.4 ** ((edges - 15) / 27))
    bins_hz_K = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE_HZ)
    width_hz = np.diff(edges_hz)[:, None]
    away_hz = edges_hz[:, None] - bins_hz_K
    rising, falling = -away_hz[:-2] / width_hz[:-1], away_hz[2:] / width_hz[1:]
    triangles_CK = np.maximum(0, np.minimum(rising, falling))
    return (triangles_CK * 2 / (edges_hz[2:] - edges_hz[:-2])[:, None]).astype(np.float32)


def _mel(hz: float) -> float:
    """Slaney's mel scale: linear up to 1 kHz (15 mel), logarithmic above."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000) / np.log(6.4))
