"""Audio files of any format soundfile reads -> 16 kHz mono, 16-bit WAV."""

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hpro_core.constants import SAMPLE_RATE_HZ

SILENT_PEAK = 1e-3
"""A clip whose loudest sample is below -60 dB of full scale is silence (ours)."""


class Unusable(Exception):
    """The utterance cannot be used; the message is the reason for the `rejected` table."""


def decoded(audio: Path | bytes) -> np.ndarray:
    """Decode, mix down and resample one file.

    Args:
        audio: the file or its content, in any format that soundfile reads.

    Returns:
        float32 (T,), mono at `SAMPLE_RATE_HZ`, within [-1, 1].

    Raises:
        Unusable: not decodable, without samples, not finite, or silent.
    """
    file = io.BytesIO(audio) if isinstance(audio, bytes) else audio
    try:
        samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise Unusable("unreadable audio") from error
    if not len(samples):
        raise Unusable("empty audio")
    if not np.isfinite(samples).all():
        raise Unusable("audio with values that are not numbers")
    mono = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
    if not len(mono) or np.abs(mono).max() < SILENT_PEAK:
        raise Unusable("silent audio")
    return np.clip(mono, -1.0, 1.0)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write float samples (T,) in [-1, 1] as 16 kHz 16-bit WAV."""
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, subtype="PCM_16")
