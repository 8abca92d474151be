"""Converts audio files of any format that soundfile reads to 16 kHz mono 16-bit WAV."""

import io
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.containers import SplicedFile, Unusable, complete_view, is_cut_off, mp3_frames
from hpro_core.io import write_in_place

SILENT_PEAK = 1e-3
"""A clip whose loudest sample is below -60 dB of full scale is silence (ours)."""

MAX_AMPLITUDE = 4.0
"""Peak above which samples are not on a scale of [-1, 1] (ours), for example integers stored as
float. No decoder of music or speech overshoots full scale by as much."""

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000
"""Accepted sampling rates (ours): speech below the first is unintelligible, the second is the
highest of any converter. Resampling from 1 Hz would take gigabytes."""

MAX_DURATION_S = 30.0
"""Largest value of `corpus.max_duration_s`."""

BLOCK_SAMPLES = 2**18
"""Samples of all channels that are decoded at a time."""

UNKNOWN_FRAMES = 2**62
"""Lengths from this on are libsndfile's value for a stream whose header declares none."""

MP3_FRAME_SAMPLES = 1152


class TooLong(Unusable):
    """The clip exceeds the limit of duration; this is not a fault of the file."""


class _Forward(soundfile.SoundFile):
    """Sequential reader: soundfile otherwise seeks after each block, which libFLAC refuses in a
    stream of unknown length."""

    def seekable(self) -> bool:
        return False


def decode_file(audio: Path | bytes, longest_s: float = MAX_DURATION_S) -> np.ndarray:
    """Decode, mix down and resample one file.

    Sampling rate and format are read from the header before decoding. Audio is decoded block by
    block, up to `longest_s`, whatever length the header declares.

    Args:
        audio: the file or its content, in any format that soundfile reads.
        longest_s: seconds; decoding stops beyond it.

    Returns:
        float32 (T,), mono at `SAMPLE_RATE_HZ`, within [-1, 1].

    Raises:
        TooLong: longer than `longest_s`.
        Unusable: not decodable, cut off (not detectable in an MP3 without an encoder header),
            without samples, at an unsupported rate, not finite, silent, or far above full scale.
            No other exception is raised, whatever the content.
    """
    try:
        with _opened(audio) as raw:
            mono_T, rate_hz = _mono(complete_view(raw), longest_s)
    except (
        soundfile.SoundFileError, OSError, TypeError, ValueError, RuntimeError, MemoryError,
        OverflowError, struct.error,
    ) as error:  # fmt: skip
        # TypeError: a name in .raw; ValueError, OverflowError: sizes that exceed memory
        raise Unusable("unreadable audio") from error
    if not len(mono_T):
        raise Unusable("empty audio")
    mono_T = soxr.resample(mono_T, rate_hz, SAMPLE_RATE_HZ)
    peak = np.abs(mono_T).max(initial=0.0)
    if peak < SILENT_PEAK:
        raise Unusable("silent audio")
    if peak > MAX_AMPLITUDE:
        raise Unusable("audio far above full scale")
    return np.clip(mono_T, -1.0, 1.0)


def _opened(audio: Path | bytes) -> BinaryIO:
    if isinstance(audio, bytes):
        return io.BytesIO(audio)
    if not audio.is_file():  # opening a pipe would block
        raise OSError(f"{audio} is not a file")
    return audio.open("rb")


def _mono(raw: SplicedFile, longest_s: float) -> tuple[np.ndarray, int]:
    """All samples as float32 (T,) at the file's own rate, and that rate."""
    raw.seek(0)
    blocks: list[np.ndarray] = []
    n_read = 0
    with _Forward(raw) as file:
        rate_hz = file.samplerate
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise Unusable(f"unsupported sampling rate: {rate_hz} Hz")
        declared, kind = file.frames, file.format
        size = max(1, BLOCK_SAMPLES // file.channels)
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            if not np.isfinite(block).all():
                raise Unusable("audio with NaN or infinite values")
            blocks.append(block.mean(axis=1))
            n_read += len(block)
            if n_read > longest_s * rate_hz:
                raise TooLong(f"longer than {longest_s:g} s")
    if _ends_early(raw, kind, n_read, declared):
        raise Unusable("truncated audio")
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate_hz


def _ends_early(raw: SplicedFile, kind: str, n_read: int, declared: int) -> bool:
    """Whether a file has fewer samples than its header declares."""
    if kind == "MP3":
        counted = mp3_frames(raw)
        missing = declared - n_read if counted is not None else 0
        return missing > MP3_FRAME_SAMPLES  # some encoders count one too many
    return is_cut_off(raw) or n_read < declared < UNKNOWN_FRAMES


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write float samples (T,) in [-1, 1] as 16 kHz 16-bit WAV.

    Raises:
        HproError: the file cannot be written.
    """
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    content = io.BytesIO()
    soundfile.write(content, pcm, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    write_in_place(path, content.getvalue())
