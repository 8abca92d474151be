"""Audio and word times, for all judges. Letters: T samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core import io
from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.align.spans import AlignmentRefused
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.evaluate.affect import Span
from hpro_core.tables import by_utterance


def read_audio(root: Path, audio: str) -> np.ndarray:
    """Read a WAV file of the run, named relative to its results folder: see `read_wav`."""
    return read_wav(root / audio)


def read_wav(path: Path) -> np.ndarray:
    """Read a WAV file.

    Returns:
        float32 (T,), 16 kHz, mono, in [-1, 1].

    Raises:
        HproError: unreadable, empty, with values that are not numbers, not mono, or another rate.
    """
    return io.read_wav(path, SAMPLE_RATE_HZ)


def at_least(audio_T: np.ndarray, seconds: float) -> np.ndarray:
    """The clip, with silence after it where it is shorter.

    A bad system may say next to nothing, and is to get its marks for that too.
    """
    lacking = round(seconds * SAMPLE_RATE_HZ) - len(audio_T)
    return np.pad(audio_T, (0, lacking)) if lacking > 0 else audio_T


def spans_by_utterance(words: pd.DataFrame) -> dict[str, list[Span]]:
    """Word times of each utterance, in order, from a WORDS table."""
    return {
        utt_id: list(zip(rows["start_s"], rows["end_s"], strict=True))
        for utt_id, rows in by_utterance(words).items()
    }


def realigned(
    aligner: PocketsphinxAligner, audio_T: np.ndarray, words: Sequence[str]
) -> list[Span] | None:
    """Word times in synthesised speech, or None where the aligner cannot find the words."""
    try:
        found = aligner.align(audio_T, list(words))
    except AlignmentRefused:
        return None
    return [(span.start_s, span.end_s) for span in found]
