"""Text normalisers and log-mel spectrogram of openai-whisper, without importing the package.

The package imports numba, tiktoken and its network, which the embedded judges do not need.
Letters: T samples, C mel channels, F mel frames, K bins of a spectrum.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

_N_FFT, _HOP = 400, 160  # 25 ms every 10 ms
Normaliser = Callable[[str], str]


def normalisers() -> tuple[Normaliser, Normaliser]:
    """Return OpenAI's English text normaliser and the basic one for any language.

    Raises:
        ModuleNotFoundError: openai-whisper is not installed.
    """
    name = "hpro_core.judges._whisper_normalizers"
    if name not in sys.modules:
        path = _package() / "normalizers" / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    module = sys.modules[name]
    return module.EnglishTextNormalizer(), module.BasicTextNormalizer()


def log_mel(audio_T: np.ndarray, n_mels: int) -> np.ndarray:
    """Compute Whisper's log-mel spectrogram, bit-identical to `whisper.audio.log_mel_spectrogram`.

    Args:
        audio_T: float32 (T,), 16 kHz, already padded.
        n_mels: 80 or 128.

    Returns:
        float32 (C, F); the range from minimum to maximum is at most 2.
    """
    import torch  # imported here because the report needs only the normalisers

    window = torch.hann_window(_N_FFT)
    audio = torch.from_numpy(audio_T)
    spectrum_KF = torch.stft(audio, _N_FFT, _HOP, window=window, return_complex=True)
    mel_CF = torch.from_numpy(_filters(n_mels)) @ spectrum_KF[..., :-1].abs() ** 2
    log_CF = mel_CF.clamp(min=1e-10).log10()
    return ((torch.maximum(log_CF, log_CF.max() - 8.0) + 4.0) / 4.0).numpy()


@functools.cache
def _filters(n_mels: int) -> np.ndarray:
    with np.load(_package() / "assets" / "mel_filters.npz", allow_pickle=False) as stored:
        return stored[f"mel_{n_mels}"]


def _package() -> Path:
    spec = importlib.util.find_spec("whisper")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("openai-whisper is not installed: run `make setup`")
    return Path(spec.submodule_search_locations[0])
