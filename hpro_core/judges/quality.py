"""What the quality judges share whose weights the user brings. Letters: T samples."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import fingerprint
from hpro_core.judges.realignment import pad_to_duration, read_wav
from hpro_core.label.teachers import AlignedUtterance

MIN_DURATION_S = 0.5
"""Shorter clips are zero-padded at the end to this length (ours): NISQA needs 0.2 s."""


class ClipJudge(ABC):
    """Judge that scores whole clips, one at a time; a subclass scores the samples of a clip."""

    def __init__(self, path: Path, name: str):
        """
        Args:
            path: file of the weights.
            name: name of the judge, a part of its identity.

        Raises:
            HproError: the file is missing.
        """
        self.weights = path
        self.identity: dict[str, object] = {"judge": name, "files": fingerprint(path)}

    @abstractmethod
    def _score(self, audio_T: np.ndarray) -> float:
        """Score the samples of a clip, float32 (T,), 16 kHz."""

    def predict(self, clips: Sequence[AlignedUtterance]) -> list[float]:
        """Predict the score of each clip, about 1 to 5.

        Raises:
            HproError: audio is unreadable, empty, or not 16 kHz mono, or a score is not finite.
        """
        scores = []
        for clip in clips:
            found = self._score(pad_to_duration(read_wav(clip.audio), MIN_DURATION_S))
            if not np.isfinite(found):
                raise HproError(
                    f"{clip.utt_id}: {self.weights} returns a score that is not finite for "
                    f"{clip.audio}: check the audio, or download the weights again"
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
