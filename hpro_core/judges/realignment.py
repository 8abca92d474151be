"""Audio and word times for all judges. Letters: T samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core import io
from hpro_core.align.jobs import AlignmentRefused
from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.judges.affect import Span
from hpro_core.tables import by_utterance


def read_wav(path: Path) -> np.ndarray:
    """Read a WAV file.

    Returns:
        float32 (T,), 16 kHz, mono, in [-1, 1].

    Raises:
        HproError: the file is unreadable or empty, has values that are not finite, is not mono, or
            has another sample rate.
    """
    return io.read_wav(path, SAMPLE_RATE_HZ)


def pad_to_duration(audio_T: np.ndarray, seconds: float) -> np.ndarray:
    """Zero-pad a clip, float (T,) at 16 kHz, at the end to a minimum length.

    A poor system may produce a very short clip; it is padded and scored, not excluded.
    """
    lacking = round(seconds * SAMPLE_RATE_HZ) - len(audio_T)
    return np.pad(audio_T, (0, lacking)) if lacking > 0 else audio_T


def spans_by_utterance(words: pd.DataFrame) -> dict[str, list[Span]]:
    """Word times in seconds of each utterance, in order, from a WORDS table."""
    return {
        utt_id: list(zip(rows["start_s"], rows["end_s"], strict=True))
        for utt_id, rows in by_utterance(words).items()
    }


def realign(
    aligner: PocketsphinxAligner, audio_T: np.ndarray, words: Sequence[str]
) -> list[Span] | None:
    """Align the words of a sentence to synthesised speech, float32 (T,), 16 kHz.

    Returns:
        Start and end of each word in seconds, or None if the aligner cannot find the words.
    """
    try:
        found = aligner.align(audio_T, list(words))
    except AlignmentRefused:
        return None
    return [(span.start_s, span.end_s) for span in found]
