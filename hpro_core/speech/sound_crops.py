"""Batches of audio crops with their speech tokens, for the training of the vocoder.

Letters: B batch, L speech token, F = 4 L frame, T = 640 L sample, E embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hpro_core.constants import TOKEN_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.label.prosody import analyse
from hpro_core.speech.crops import read_audio
from hpro_core.speech.features import FRAMES_PER_TOKEN, SAMPLES_PER_TOKEN
from hpro_core.tables import SPEECH_TOKENS, UTTERANCES, read_table

_LARGEST_JUMP_ST = 4.0  # between two pitch estimates 10 ms apart; more is an error of an octave


@dataclass(frozen=True)
class SoundCrops:
    """A batch of crops."""

    step: int  # of the training
    audio_BT: Tensor  # float32, recordings
    f0_BF: Tensor  # float32, pitch of the recordings in Hz; NaN: unvoiced
    tokens_BL: Tensor  # int64
    speaker_BE: Tensor  # float32, embeddings of other utterances of the speakers

    def to(self, device: torch.device) -> "SoundCrops":
        """Copy the crops to a device."""
        parts = (self.audio_BT, self.f0_BF, self.tokens_BL, self.speaker_BE)
        return SoundCrops(self.step, *(part.to(device) for part in parts))


class Sound(NamedTuple):
    """An utterance with its tokens."""

    path: Path
    corpus: str
    speaker: str
    tokens_L: np.ndarray  # int16
    speaker_embedding: np.ndarray  # float32 (E,), of this utterance


def token_files(root: Path) -> list[Path]:
    """Tables of speech tokens in the results of a run: one, or one per shard."""
    shards = sorted(root.glob("speech/shards/*/speech_tokens.parquet"))
    return shards or [root / "speech/speech_tokens.parquet"]


def load_sounds(root: Path, split: str) -> list[Sound]:
    """Read the utterances of a split with their tokens and the paths of their audio.

    Raises:
        HproError: a table is missing or broken, or an utterance has no tokens.
    """
    rows = read_table(root / "corpus/utterances.parquet", UTTERANCES, only={"split": [split]})
    tokens = pd.concat([read_table(path, SPEECH_TOKENS) for path in token_files(root)])
    joined = rows.merge(tokens, how="left", on="utt_id", validate="one_to_one")
    if (without := joined["tokens"].isna()).any():
        first = joined.loc[without, "utt_id"].iloc[0]
        raise HproError(f"{root}/speech: {first} has no speech tokens: run `hpro tokenize` again")
    return [
        Sound(
            root / row["audio"], row["corpus"], row["speaker"], np.asarray(row["tokens"]),
            np.asarray(row["speaker_embedding"], dtype=np.float32),
        )
        for row in joined.to_dict("records")
    ]  # fmt: skip


class SoundSampler:
    """Draws the crops of a step as a pure function of seed and step, so that a resume is exact.

    Every corpus has the same share of a batch; within one all utterances are equally likely.
    """

    def __init__(self, sounds: Sequence[Sound], batch_size: int, segment_s: float, seed: int):
        """
        Args:
            sounds: utterances to draw from; those that are not longer than a crop are left out.
            batch_size: crops per batch.
            segment_s: length of a crop.
            seed: seed of all draws.

        Raises:
            HproError: no utterance is longer than a crop.
        """
        self.batch_size = batch_size
        self.n_tokens = max(1, round(segment_s * TOKEN_RATE_HZ))
        self.seed = seed
        # The last token may cover fewer samples than the others.
        self._sounds = [sound for sound in sounds if len(sound.tokens_L) > self.n_tokens]
        if not self._sounds:
            raise HproError(
                f"none of {len(sounds)} utterances is longer than {segment_s:g} s: lower "
                "vocoder.segment_s in params.yaml"
            )
        names = [(sound.corpus, sound.speaker) for sound in self._sounds]
        table = pd.DataFrame(names, columns=["corpus", "speaker"])
        self._sets = [np.asarray(rows) for rows in table.groupby("corpus").indices.values()]
        self._speakers = table.groupby(["corpus", "speaker"]).indices

    def batch_at(self, step: int) -> SoundCrops:
        """Draw the crops of a step.

        Raises:
            HproError: an audio file is missing or invalid, or shorter than its tokens.
        """
        rng = np.random.default_rng([self.seed, step])
        rows = [self._crop(self._sets[(i + step) % len(self._sets)], rng)
                for i in range(self.batch_size)]  # fmt: skip
        parts = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return SoundCrops(step, *parts)

    def _crop(
        self, members: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        place = int(members[int(rng.integers(len(members)))])
        sound = self._sounds[place]
        audio_T = read_audio(sound.path)
        latest = len(audio_T) // SAMPLES_PER_TOKEN - self.n_tokens
        if latest < 0:
            raise HproError(
                f"{sound.path} is shorter than its {len(sound.tokens_L)} speech tokens: run `hpro "
                "tokenize` again"
            )
        start = int(rng.integers(latest + 1))
        stop = start + self.n_tokens
        crop_T = audio_T[start * SAMPLES_PER_TOKEN : stop * SAMPLES_PER_TOKEN]
        others = self._speakers[sound.corpus, sound.speaker]
        choice = int(rng.integers(len(others)))
        reference = int(others[choice - 1] if others[choice] == place else others[choice])
        tokens_L = sound.tokens_L[start:stop].astype(np.int64)
        return crop_T, frame_f0(crop_T), tokens_L, self._sounds[reference].speaker_embedding


def frame_f0(audio_T: np.ndarray) -> np.ndarray:
    """Pitch of the frames of audio of whole tokens, float32 (4 L,) in Hz, NaN where unvoiced.

    It is estimated every 10 ms from the first sample; a frame is centred between two estimates.
    """
    n_frames = len(audio_T) * FRAMES_PER_TOKEN // SAMPLES_PER_TOKEN
    pitch_st = analyse(audio_T).pitch_st[: n_frames + 1]
    before_F, after_F = pitch_st[:-1], pitch_st[1:]
    steady_F = np.abs(after_F - before_F) <= _LARGEST_JUMP_ST  # False beside an unvoiced estimate
    middle_F = np.where(steady_F, (before_F + after_F) / 2, np.nan)
    return (100.0 * 2.0 ** (middle_F / 12)).astype(np.float32)
