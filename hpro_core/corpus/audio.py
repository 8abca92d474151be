"""Audio files of any format soundfile reads -> 16 kHz mono, 16-bit WAV."""

import io
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from hpro_core.constants import SAMPLE_RATE_HZ

SILENT_PEAK = 1e-3
"""A clip whose loudest sample is below -60 dB of full scale is silence (ours)."""

LOUDEST = 4.0
"""No decoder of music or speech overshoots full scale by as much (ours): floats that are no share
of it but, say, whole numbers."""

UNKNOWN_SIZE = 2**31 - 8192
"""So many bytes of samples and more are what a WAV file says that does not know."""


class Unusable(Exception):
    """The utterance cannot be used; the message is the reason for the `rejected` table."""


def decoded(audio: Path | bytes) -> np.ndarray:
    """Decode, mix down and resample one file.

    Args:
        audio: the file or its content, in any format that soundfile reads.

    Returns:
        float32 (T,), mono at `SAMPLE_RATE_HZ`, within [-1, 1].

    Raises:
        Unusable: not decodable, a WAV file that is cut off (a FLAC file then does not decode; of
            MP3 it cannot be told), without samples, not finite, silent, or far above full scale.
    """
    try:
        with _opened(audio) as raw, soundfile.SoundFile(raw) as file:
            rate_hz = file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
            raw.seek(0)
            cut_off = _cut_off_wav(raw)
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: a name in .raw
        raise Unusable("unreadable audio") from error
    if cut_off:
        raise Unusable("audio that is cut off")
    if not len(samples):
        raise Unusable("empty audio")
    if not np.isfinite(samples).all():
        raise Unusable("audio with values that are not numbers")
    mono = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
    peak = np.abs(mono).max(initial=0.0)
    if peak < SILENT_PEAK:
        raise Unusable("silent audio")
    if peak > LOUDEST:
        raise Unusable("audio far above full scale")
    return np.clip(mono, -1.0, 1.0)


def _opened(audio: Path | bytes) -> BinaryIO:
    return io.BytesIO(audio) if isinstance(audio, bytes) else audio.open("rb")


def _cut_off_wav(raw: BinaryIO) -> bool:
    """Whether a WAV file ends before its samples do: libsndfile reads what there is, silently.

    Sizes of streams that were written before their length was known say nothing: 0, and from SoX's
    2^31 - 4096, less the rest of a block, to ffmpeg's 2^32 - 1.
    """
    riff, _, wave = struct.unpack("<4sI4s", raw.read(12).ljust(12, b"\0"))
    if (riff, wave) != (b"RIFF", b"WAVE"):
        return False
    end = raw.seek(0, io.SEEK_END)
    at = 12
    while at + 8 <= end:
        raw.seek(at)
        name, size = struct.unpack("<4sI", raw.read(8))
        if name == b"data":
            return size < UNKNOWN_SIZE and at + 8 + size > end
        at += 8 + size + size % 2
    return True


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write float samples (T,) in [-1, 1] as 16 kHz 16-bit WAV."""
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, subtype="PCM_16")
