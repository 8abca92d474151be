"""What the quality judges share whose weights the user brings. Letters: T samples."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.judges.realignment import pad_to_duration, read_wav
from hpro_core.label.teachers import AlignedUtterance

MIN_DURATION_S = 0.5
"""Shorter clips are zero-padded at the end to this length (ours): NISQA needs 0.2 s."""


def score_clips(
    clips: Sequence[AlignedUtterance], score: Callable[[np.ndarray], float], weights: Path
) -> list[float]:
    """Score clips one at a time.

    Args:
        clips: clips to score.
        score: function of the samples of a clip, float32 (T,), 16 kHz.
        weights: weights of the judge, for error messages.

    Raises:
        HproError: audio is unreadable, empty, or not 16 kHz mono, or a score is not finite.
    """
    scores = []
    for clip in clips:
        found = score(pad_to_duration(read_wav(clip.audio), MIN_DURATION_S))
        if not np.isfinite(found):
            raise HproError(
                f"{clip.utt_id}: {weights} returns a score that is not finite for {clip.audio}: "
                "check the audio, or download the weights again"
            )
        scores.append(found)
    return scores


def check_judge(score: Callable[[np.ndarray], float], path: Path, origin: str) -> None:
    """Score a short clip once, to find a model whose sizes fit its weights but which does not run.

    Raises:
        HproError: `score` raises any exception.
    """
    try:
        score(np.zeros(round(MIN_DURATION_S * SAMPLE_RATE_HZ), dtype=np.float32))
    except Exception as error:  # a model of another kind can raise any exception
        raise HproError(f"{path} does not run ({str(error)[:300]}): use {origin}") from error
