"""Batches of log-mel crops for the tokenizer.

Letters: B batch, L speech token, F = 4 L frame, M mel band, W word, J phone, A = 12 affect: the
nine emotions, then V, A, D.

Every test set of the run (acted, controlled, ..) has the same share of a batch whatever its size;
within a set every utterance is as likely as another. Crops begin and end between words, so that
their phones are known; an utterance whose words are not known is cut anywhere. In training they are
also spoken faster or slower (`at_tempo`): few hours of speech are little to learn sounds from.
"""

import math
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, TOKEN_RATE_HZ, VAD
from hpro_core.engine.batching import spans_to_frames
from hpro_core.errors import HproError
from hpro_core.io import read_wav
from hpro_core.progress import track
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS, SILENCE, MelFrontend
from hpro_core.tables import EMOTION_POSTERIORS, WORD_VAD, WORDS, read_table
from hpro_core.text.phones import PADDING, phone_ids

N_AFFECT = len(EMOTIONS) + len(VAD)

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True)
class Utterance:
    """Log-mel frames of one utterance, kept in half the space (float16, error below 0.004)."""

    utt_id: str
    corpus: str
    speaker: str
    mel_FM: np.ndarray  # float16 (4 L, 80)
    edges_W2: np.ndarray  # int64, first and one-past-last token of each word; (0, 2): not known
    phones: tuple[tuple[int, ...], ...]  # of each word, ids of `text.SYMBOLS`
    affect_LA: np.ndarray  # float32, as in `Crops`


@dataclass(frozen=True)
class Crops:
    """Crops to rebuild, and crops of other utterances of the same speakers."""

    mel_BFM: Tensor  # float32
    lengths_B: Tensor  # int64, tokens
    reference_BFM: Tensor  # float32
    reference_lengths_B: Tensor  # int64, tokens
    phones_BJ: Tensor  # int64, padded with text.PADDING
    phone_lengths_B: Tensor  # int64; 0: not known
    affect_BLA: Tensor  # float32, of the word that a token is in; NaN: in none, or not known

    def to(self, device: torch.device) -> "Crops":
        """The same crops on another device."""
        return Crops(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class MappedUtterances(Sequence[Utterance]):
    """Utterances whose log-mel frames are in a memory-mapped file, and their words in columns."""

    def __init__(
        self,
        frames_FM: np.ndarray,
        ends: np.ndarray,
        columns: Mapping[str, np.ndarray],
        words: "_Words",
        rows: np.ndarray,
    ):
        """
        Args:
            frames_FM: float16 (sum of F, 80), of all utterances one after another.
            ends: int64, one past the last frame of each.
            columns: utt_id, corpus and speaker of each.
            words: of all utterances.
            rows: positions of these utterances among all, int64.
        """
        self._frames_FM = frames_FM
        self._ends = ends
        self._columns = columns
        self._words = words
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> "MappedUtterances": ...
    def __getitem__(self, index: int | slice) -> "Utterance | MappedUtterances":
        if isinstance(index, slice):
            return self.chosen(np.arange(len(self))[index])
        row = int(self._rows[index])
        utt_id, corpus, speaker = (known[row] for known in self._columns.values())
        mel_FM = self._frames_FM[self._ends[row - 1] if row else 0 : self._ends[row]]
        edges_s, phones, affect_WA = self._words.of(utt_id)
        size = len(mel_FM) // FRAMES_PER_TOKEN
        edges_W2 = spans_to_frames(edges_s, size)
        affect_LA = _at_tokens(affect_WA, edges_W2, size)
        return Utterance(utt_id, corpus, speaker, mel_FM, edges_W2, phones, affect_LA)

    def chosen(self, positions: np.ndarray) -> "MappedUtterances":
        """Some of them, by their positions."""
        rows = self._rows[positions]
        return MappedUtterances(self._frames_FM, self._ends, self._columns, self._words, rows)

    def voices(self) -> list[tuple[str, str]]:
        """Corpus and speaker of each."""
        corpora, speakers = (self._columns[name][self._rows] for name in ("corpus", "speaker"))
        return list(zip(corpora.tolist(), speakers.tolist(), strict=True))


class _Words:
    """The words of utterances in columns: times, pronunciations, affect."""

    def __init__(self, words: pd.DataFrame):
        ordered = words.sort_values(["utt_id", "word_index"])
        utt_ids, starts = np.unique(ordered["utt_id"].to_numpy(dtype=str), return_index=True)
        ends = np.append(starts, len(ordered))[1:]
        self._place = dict(zip(utt_ids.tolist(), zip(starts, ends, strict=True), strict=True))
        self._edges_s = ordered[["start_s", "end_s"]].to_numpy(dtype=np.float64)
        self._affect_WA = ordered[[*EMOTIONS, *VAD]].to_numpy(dtype=np.float32)
        self._word, names = pd.factorize(ordered["word"])
        self._phones = [phone_ids(name) for name in names]

    def of(self, utt_id: str) -> tuple[np.ndarray, tuple[tuple[int, ...], ...], np.ndarray]:
        """Times (W, 2) in seconds, phones, and affect (W, A); no words if they are not known."""
        first, end = self._place.get(utt_id, (0, 0))
        phones = tuple(self._phones[word] for word in self._word[first:end])
        return self._edges_s[first:end], phones, self._affect_WA[first:end]


def load(
    root: Path, utterances: pd.DataFrame, label: str, words: pd.DataFrame, work: Path
) -> MappedUtterances:
    """Read the audio of a table of utterances once and keep its log-mel frames on disk.

    Args:
        root: results folder of the run.
        utterances: rows of the UTTERANCES table.
        label: of the progress line.
        words: the WORDS table with the columns of V, A, D and the emotions (`labelled`).
        work: folder of the frames, 16 kB for a second of speech. Their file has no name: it is gone
            when the process ends, however it ends.

    Raises:
        HproError: a file is missing, unreadable, empty, or not 16 kHz mono.
    """
    work.mkdir(parents=True, exist_ok=True)
    ends = []
    with tempfile.TemporaryFile(dir=work) as file:
        for mel_FM in spectra(root, track(utterances["audio"], len(utterances), label)):
            file.write(mel_FM.tobytes())
            ends.append(file.tell() // (N_MELS * mel_FM.itemsize))
        file.flush()
        frames_FM = np.memmap(file, dtype=np.float16, mode="r", shape=(ends[-1], N_MELS))
    columns = {name: utterances[name].to_numpy() for name in ("utt_id", "corpus", "speaker")}
    mine = _Words(words[words["utt_id"].isin(utterances["utt_id"])])
    return MappedUtterances(frames_FM, np.array(ends), columns, mine, np.arange(len(ends)))


def spectra(root: Path, paths: Iterable[str]) -> Iterator[np.ndarray]:
    """Log-mel frames of audio files, float16 (4 L, 80) each.

    Raises:
        HproError: a file is missing, unreadable, empty, or not 16 kHz mono.
    """
    frontend = MelFrontend()
    for path in paths:
        yield frontend.analyse(torch.from_numpy(read_audio(root / path))).half().numpy()


def by_corpus(utterances: Sequence[Utterance]) -> dict[str, Sequence[Utterance]]:
    """The utterances of each corpus, in the order in which the corpora appear."""
    return _grouped(utterances, [corpus for corpus, _ in _voices(utterances)])


def labelled(root: Path) -> pd.DataFrame:
    """The WORDS table of a run, each word with its V, A, D and the emotions of its utterance.

    Raises:
        HproError: a table of the align or label stage is missing, or a word has no label.
    """
    words = read_table(root / "align/words.parquet", WORDS)
    affect = read_table(root / "label/word_vad.parquet", WORD_VAD)
    emotion = read_table(root / "label/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    joined = words.merge(affect, how="left", on=["utt_id", "word_index"])
    joined = joined.merge(emotion, how="left", on="utt_id")
    unknown = joined[joined[[*EMOTIONS, *VAD]].isna().any(axis=1)]
    if len(unknown):
        raise HproError(
            f"{root}/label: {len(unknown)} words have no label, the first is word "
            f"{unknown['word_index'].iloc[0]} of {unknown['utt_id'].iloc[0]}: "
            "run `hpro label` again"
        )
    return joined


def _at_tokens(affect_WA: np.ndarray, edges_W2: np.ndarray, size: int) -> np.ndarray:
    """Affect of the word that each token is in, (L, A); NaN outside of words."""
    affect_LA = np.full((size, N_AFFECT), np.nan, dtype=np.float32)
    for row_A, (first, end) in zip(affect_WA, edges_W2, strict=True):
        affect_LA[first:end] = row_A
    return affect_LA


def read_audio(path: Path) -> np.ndarray:
    """Samples of a 16 kHz mono file, float32 (T,).

    Raises:
        HproError: the file is missing, unreadable, empty, or of another kind.
    """
    return read_wav(path, SAMPLE_RATE_HZ, "run the corpus stage again")


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


def _padded_affect(affects: Sequence[np.ndarray]) -> Tensor:
    rows = [torch.from_numpy(affect_LA) for affect_LA in affects]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)


def _padded_phones(phones: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor(row, dtype=torch.int64) for row in phones]
    stacked = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    return stacked, torch.tensor([len(row) for row in phones])


def at_tempo(mel_FM: np.ndarray, longer: float) -> np.ndarray:
    """Log-mel frames as if spoken slower, or faster.

    A cubic spline in time: with straight lines the decoder learns to blur. Frequencies stay, for
    they tell the speaker and the feeling (docs/log/index.md).

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


def _longer(affect_LA: np.ndarray, size: int) -> np.ndarray:
    """The rows of `size` tokens that last as long as these: the nearest in time."""
    middles = (np.arange(size) + 0.5) * len(affect_LA) / size
    return affect_LA[middles.astype(np.int64)]


def _voices(utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    """Corpus and speaker of each."""
    if isinstance(utterances, MappedUtterances):
        return utterances.voices()
    return [(u.corpus, u.speaker) for u in utterances]


def _grouped(
    utterances: Sequence[Utterance], keys: Sequence[KeyT]
) -> dict[KeyT, Sequence[Utterance]]:
    """The utterances of each key, in the order in which the keys appear."""
    positions: dict[KeyT, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    if isinstance(utterances, MappedUtterances):
        return {key: utterances.chosen(np.array(among)) for key, among in positions.items()}
    return {key: [utterances[i] for i in among] for key, among in positions.items()}


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
        self._sets = by_corpus(utterances)
        self._speakers = _grouped(utterances, _voices(utterances))

    def batch_at(self, step: int) -> Crops:
        """The crops of a step."""
        rng = np.random.default_rng([self.seed, step])
        sets = list(self._sets.values())
        chosen = []
        for i in range(self.batch_size):
            members = sets[(i + step) % len(sets)]
            chosen.append(members[int(rng.integers(len(members)))])
        mels, phones, affects = zip(*(self._spoken(u, rng) for u in chosen), strict=True)
        references = [self._crop(self._reference(u, rng).mel_FM, rng) for u in chosen]
        if self.tempo_spread:
            longer_B = np.exp(rng.uniform(-self.tempo_spread, self.tempo_spread, len(chosen)))
            mels = tuple(map(at_tempo, mels, longer_B))
            sizes = [len(mel) // FRAMES_PER_TOKEN for mel in mels]
            affects = tuple(map(_longer, affects, sizes))
        spoken = *_padded_phones(phones), _padded_affect(affects)
        return Crops(*padded(mels), *padded(references), *spoken)

    def _spoken(
        self, utterance: Utterance, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
        """Whole words and the pauses beside them, at least one word; their phones and affect."""
        edges_W2, n_words = utterance.edges_W2, len(utterance.edges_W2)
        if not n_words:
            mel_FM = self._crop(utterance.mel_FM, rng)
            return mel_FM, (), utterance.affect_LA[: len(mel_FM) // FRAMES_PER_TOKEN]
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
        mel_FM = utterance.mel_FM[start * FRAMES_PER_TOKEN : end * FRAMES_PER_TOKEN]
        return mel_FM, phones, utterance.affect_LA[start:end]

    def _crop(self, mel_FM: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frames = self.tokens * FRAMES_PER_TOKEN
        start = int(rng.integers(max(1, len(mel_FM) - frames + 1)))
        return mel_FM[start : start + frames]

    def _reference(self, utterance: Utterance, rng: np.random.Generator) -> Utterance:
        """Another utterance of the speaker; the same one where there is no other."""
        others = self._speakers[utterance.corpus, utterance.speaker]
        pick = int(rng.integers(len(others)))
        chosen = others[pick]
        return others[pick - 1] if chosen.utt_id == utterance.utt_id else chosen
