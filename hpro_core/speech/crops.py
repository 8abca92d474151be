"""Batches of log-mel crops for the tokenizer.

Letters: B batch, F = 4 L frame, M mel band, W word, J phone.

Every test set of the run (acted, controlled, ..) has the same share of a batch whatever its size;
within a set every utterance is as likely as another. Crops begin and end between words, so that
their phones are known; an utterance whose words are not known is cut anywhere. In training they are
also spoken faster or slower (`at_tempo`): few hours of speech are little to learn sounds from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from hpro_core.constants import SAMPLE_RATE_HZ, TOKEN_RATE_HZ
from hpro_core.engine.batching import spans_to_frames
from hpro_core.errors import HproError
from hpro_core.progress import track
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS, SILENCE, MelFrontend
from hpro_core.text import PADDING, phone_ids


@dataclass(frozen=True)
class Utterance:
    """Log-mel frames of one utterance, kept in half the memory (float16, error below 0.004)."""

    utt_id: str
    corpus: str
    speaker: str
    mel_FM: np.ndarray  # float16 (4 L, 80)
    edges_W2: np.ndarray  # int64, first and one-past-last token of each word; (0, 2): not known
    phones: tuple[tuple[int, ...], ...] = ()  # of each word, ids of `text.SYMBOLS`


@dataclass(frozen=True)
class Crops:
    """Crops to rebuild, and crops of other utterances of the same speakers."""

    mel_BFM: Tensor  # float32
    lengths_B: Tensor  # int64, tokens
    reference_BFM: Tensor  # float32
    reference_lengths_B: Tensor  # int64, tokens
    phones_BJ: Tensor  # int64, padded with text.PADDING
    phone_lengths_B: Tensor  # int64; 0: not known

    def to(self, device: torch.device) -> "Crops":
        """The same crops on another device."""
        return Crops(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def load(
    root: Path, utterances: pd.DataFrame, label: str, words: pd.DataFrame | None = None
) -> list[Utterance]:
    """Read the audio of a table of utterances and keep its log-mel frames.

    Args:
        root: results folder of the run.
        utterances: rows of the UTTERANCES table.
        label: of the progress line.
        words: the WORDS table, for crops whose phones are known.

    Raises:
        HproError: a file is missing, unreadable, empty, or not 16 kHz mono.
    """
    frontend = MelFrontend()
    known = {} if words is None else dict(_words_by_utterance(words))
    loaded = []
    columns = (utterances[name] for name in ("utt_id", "corpus", "speaker", "audio"))
    rows = list(zip(*columns, strict=True))
    for utt_id, corpus, speaker, path in track(rows, len(rows), label):
        mel_FM = frontend.analyse(torch.from_numpy(read_audio(root / path))).half().numpy()
        edges_s, phones = known.get(utt_id, (np.zeros((0, 2)), ()))
        edges_W2 = spans_to_frames(edges_s, len(mel_FM) // FRAMES_PER_TOKEN)
        loaded.append(Utterance(utt_id, corpus, speaker, mel_FM, edges_W2, phones))
    return loaded


def _words_by_utterance(
    words: pd.DataFrame,
) -> Iterator[tuple[str, tuple[np.ndarray, tuple[tuple[int, ...], ...]]]]:
    """Times (W, 2) in seconds and phones of the words of each utterance."""
    for utt_id, rows in words.sort_values(["utt_id", "word_index"]).groupby("utt_id"):
        phones = tuple(phone_ids(word) for word in rows["word"])
        yield str(utt_id), (rows[["start_s", "end_s"]].to_numpy(), phones)


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


def _padded_phones(phones: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor(row, dtype=torch.int64) for row in phones]
    stacked = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    return stacked, torch.tensor([len(row) for row in phones])


def at_tempo(mel_FM: np.ndarray, longer: float) -> np.ndarray:
    """Log-mel frames as if spoken slower, or faster.

    A cubic spline in time: with straight lines the decoder learns to blur. Frequencies stay, for
    they tell the speaker and the feeling (docs/log.md).

    Args:
        mel_FM: (4 L, 80).
        longer: length after by length before, up to whole tokens.

    Returns:
        float32 (4 L', 80), at least one token.
    """
    tokens = max(1, round(len(mel_FM) * longer / FRAMES_PER_TOKEN))
    frames_F = np.linspace(0, len(mel_FM) - 1, tokens * FRAMES_PER_TOKEN)
    spline = CubicSpline(np.arange(len(mel_FM)), mel_FM.astype(np.float32))
    return spline(frames_F).astype(np.float32)


class CropSampler:
    """The crops of a step: a pure function of seed and step, so that a resumed run is exact."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        batch_size: int,
        segment_s: float,
        seed: int,
        tempo_spread: float = 0.0,
    ):
        """
        Args:
            utterances: what to draw from.
            batch_size: crops in a batch.
            segment_s: length of a crop, before its tempo is changed; what is shorter is whole.
            seed: of every draw.
            tempo_spread: largest natural logarithm of the change in length.
        """
        self.batch_size = batch_size
        self.tokens = max(1, round(segment_s * TOKEN_RATE_HZ))
        self.seed = seed
        self.tempo_spread = tempo_spread
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
        mels, phones = zip(*(self._spoken(u, rng) for u in chosen), strict=True)
        references = [self._crop(self._reference(u, rng).mel_FM, rng) for u in chosen]
        if self.tempo_spread:
            longer_B = np.exp(rng.uniform(-self.tempo_spread, self.tempo_spread, len(chosen)))
            mels = tuple(map(at_tempo, mels, longer_B))
        return Crops(*padded(mels), *padded(references), *_padded_phones(phones))

    def _spoken(
        self, utterance: Utterance, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Whole words and the pauses beside them, at least one word; and their phones."""
        edges_W2, n_words = utterance.edges_W2, len(utterance.edges_W2)
        if not n_words:
            return self._crop(utterance.mel_FM, rng), ()
        size = len(utterance.mel_FM) // FRAMES_PER_TOKEN
        start = int(rng.integers(max(1, size - self.tokens + 1)))
        first = min(int((edges_W2[:, 0] < start).sum()), n_words - 1)
        if first:
            start = max(start, int(edges_W2[first - 1, 1]))
        start = min(start, int(edges_W2[first, 0]))
        inside = (edges_W2[first:, 1] <= start + self.tokens).cumprod().sum()
        stop = first + max(1, int(inside))  # a word may be longer than a crop
        follows = int(edges_W2[stop, 0]) if stop < n_words else size
        end = max(int(edges_W2[stop - 1, 1]), min(follows, start + self.tokens))
        phones = tuple(chain.from_iterable(utterance.phones[first:stop]))
        return utterance.mel_FM[start * FRAMES_PER_TOKEN : end * FRAMES_PER_TOKEN], phones

    def _crop(self, mel_FM: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frames = self.tokens * FRAMES_PER_TOKEN
        start = int(rng.integers(max(1, len(mel_FM) - frames + 1)))
        return mel_FM[start : start + frames]

    def _reference(self, utterance: Utterance, rng: np.random.Generator) -> Utterance:
        """Another utterance of the speaker; the same one where there is no other."""
        others = self._speakers[utterance.corpus, utterance.speaker]
        pick = int(rng.integers(len(others)))
        return others[pick - 1] if others[pick] is utterance else others[pick]
