"""Batches of log-mel crops for the tokenizer. Letters: B batch, F = 4 L frame, M mel band.

Every test set of the run (acted, controlled, ..) has the same share of a batch whatever its size;
within a set every utterance is as likely as another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor

from hpro_core.constants import SAMPLE_RATE_HZ, TOKEN_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.progress import track
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS, SILENCE, MelFrontend


@dataclass(frozen=True)
class Utterance:
    """Log-mel frames of one utterance, kept in half the memory (float16, error below 0.004)."""

    utt_id: str
    corpus: str
    speaker: str
    mel_FM: np.ndarray  # float16 (4 L, 80)


@dataclass(frozen=True)
class Crops:
    """Crops to rebuild, and crops of other utterances of the same speakers."""

    mel_BFM: Tensor  # float32
    lengths_B: Tensor  # int64, tokens
    reference_BFM: Tensor  # float32
    reference_lengths_B: Tensor  # int64, tokens

    def to(self, device: torch.device) -> "Crops":
        """The same crops on another device."""
        return Crops(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def load(root: Path, utterances: pd.DataFrame, label: str) -> list[Utterance]:
    """Read the audio of a table of utterances and keep its log-mel frames.

    Raises:
        HproError: a file is missing, unreadable, empty, or not 16 kHz mono.
    """
    frontend = MelFrontend()
    loaded = []
    columns = (utterances[name] for name in ("utt_id", "corpus", "speaker", "audio"))
    rows = list(zip(*columns, strict=True))
    for utt_id, corpus, speaker, path in track(rows, len(rows), label):
        mel_FM = frontend.analyse(torch.from_numpy(read_audio(root / path))).half().numpy()
        loaded.append(Utterance(utt_id, corpus, speaker, mel_FM))
    return loaded


def read_audio(path: Path) -> np.ndarray:
    """Samples of a 16 kHz mono file, float32 (T,).

    Raises:
        HproError: the file is missing, unreadable, empty, or of another kind.
    """
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, OSError) as error:
        raise HproError(f"cannot read {path}: {error}. Run the corpus stage again") from error
    if samples.ndim != 1 or rate_hz != SAMPLE_RATE_HZ or not len(samples):
        raise HproError(
            f"{path}: {rate_hz} Hz, shape {samples.shape}, but 16 kHz mono audio is expected: "
            "run the corpus stage again"
        )
    return samples


def padded(mels: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Stack log-mel frames of several lengths.

    Returns:
        float32 (B, F, 80), padded with silence to the longest; and lengths in tokens, int64 (B,).
    """
    longest = max(len(mel) for mel in mels)
    mel_BFM = np.full((len(mels), longest, N_MELS), SILENCE, dtype=np.float32)
    for row, mel in zip(mel_BFM, mels, strict=True):
        row[: len(mel)] = mel
    lengths = torch.tensor([len(mel) // FRAMES_PER_TOKEN for mel in mels])
    return torch.from_numpy(mel_BFM), lengths


class CropSampler:
    """The crops of a step: a pure function of seed and step, so that a resumed run is exact."""

    def __init__(
        self, utterances: Sequence[Utterance], batch_size: int, segment_s: float, seed: int
    ):
        """
        Args:
            utterances: what to draw from.
            batch_size: crops in a batch.
            segment_s: length of a crop; shorter utterances are taken whole.
            seed: of every draw.
        """
        self.batch_size = batch_size
        self.tokens = max(1, round(segment_s * TOKEN_RATE_HZ))
        self.seed = seed
        self._sets: dict[str, list[Utterance]] = {}
        self._speakers: dict[tuple[str, str], list[Utterance]] = {}
        for utterance in utterances:
            self._sets.setdefault(utterance.corpus, []).append(utterance)
            key = utterance.corpus, utterance.speaker
            self._speakers.setdefault(key, []).append(utterance)

    def batch_at(self, step: int) -> Crops:
        """The crops of a step."""
        rng = np.random.default_rng([self.seed, step])
        sets = list(self._sets.values())
        chosen = []
        for i in range(self.batch_size):
            members = sets[(i + step) % len(sets)]
            chosen.append(members[int(rng.integers(len(members)))])
        mels = [self._crop(u.mel_FM, rng) for u in chosen]
        references = [self._crop(self._reference(u, rng).mel_FM, rng) for u in chosen]
        return Crops(*padded(mels), *padded(references))

    def _crop(self, mel_FM: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frames = self.tokens * FRAMES_PER_TOKEN
        start = int(rng.integers(max(1, len(mel_FM) - frames + 1)))
        return mel_FM[start : start + frames]

    def _reference(self, utterance: Utterance, rng: np.random.Generator) -> Utterance:
        """Another utterance of the speaker; the same one where there is no other."""
        others = self._speakers[utterance.corpus, utterance.speaker]
        pick = int(rng.integers(len(others)))
        return others[pick - 1] if others[pick] is utterance else others[pick]
