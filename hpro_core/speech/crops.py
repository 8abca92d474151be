"""Batches of log-mel crops for the tokenizer.

Letters: B batch, L speech token, F = 4 L frame, M mel band, W word, J phone, A = 12 affect: the
nine emotions, then V, A, D.

Every corpus of the run (acted, controlled, ..) has the same share of a batch, whatever its size;
within a corpus all utterances are equally likely. Crops start and end between words, so that their
phones are known; utterances without word times are cut anywhere. In training the tempo of the crops
is changed (`at_tempo`), as augmentation for a training set of a few hours. With `voice_spread` and
`channel_spread` a crop and its reference also change together, as if another speaker had said them
in another recording (`at_frequencies`, `channel_gain`).
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
from hpro_core.errors import HproError
from hpro_core.io import read_wav
from hpro_core.progress import track
from hpro_core.speech.features import FRAMES_PER_TOKEN, N_MELS, SILENCE, MelFrontend
from hpro_core.tables import EMOTION_POSTERIORS, WORD_VAD, WORDS, read_table
from hpro_core.text.phones import PADDING, phone_ids
from hpro_core.train.batching import spans_to_frames

N_AFFECT = len(EMOTIONS) + len(VAD)

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True)
class Utterance:
    """One utterance: log-mel frames in float16 (error below 0.004), words and affect."""

    utt_id: str
    corpus: str
    speaker: str
    mel_FM: np.ndarray  # float16 (4 L, 80)
    edges_W2: np.ndarray  # int64, first and one-past-last token of each word; (0, 2): unknown words
    phones: tuple[tuple[int, ...], ...]  # phones of each word, ids of `text.SYMBOLS`
    affect_LA: np.ndarray  # float32, as in `Crops`


@dataclass(frozen=True)
class Crops:
    """A batch of crops, with reference crops of other utterances of the same speakers."""

    mel_BFM: Tensor  # float32
    lengths_B: Tensor  # int64, tokens
    reference_BFM: Tensor  # float32
    reference_lengths_B: Tensor  # int64, tokens
    phones_BJ: Tensor  # int64, padded with text.PADDING
    phone_lengths_B: Tensor  # int64; 0: unknown
    affect_BLA: Tensor  # float32, affect of the word of each token; NaN: no word, or unknown

    def to(self, device: torch.device) -> "Crops":
        """Copy the crops to a device."""
        return Crops(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class MappedUtterances(Sequence[Utterance]):
    """Utterances with log-mel frames in a memory-mapped file and words in columns."""

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
            frames_FM: float16 (sum of F, 80), concatenated frames of all utterances.
            ends: int64, one-past-last frame of each utterance.
            columns: columns utt_id, corpus and speaker of all utterances, in this order.
            words: words of all utterances.
            rows: int64 positions of the utterances of this sequence among all.
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
        """Select utterances by their positions in this sequence."""
        rows = self._rows[positions]
        return MappedUtterances(self._frames_FM, self._ends, self._columns, self._words, rows)

    def speakers(self) -> list[tuple[str, str]]:
        """List corpus and speaker of each utterance."""
        corpora, speakers = (self._columns[name][self._rows] for name in ("corpus", "speaker"))
        return list(zip(corpora.tolist(), speakers.tolist(), strict=True))


class _Words:
    """Words of utterances in columns: times, phones, affect."""

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
        """Return times (W, 2) in seconds, phones, and affect (W, A); W is 0 for unknown words."""
        first, end = self._place.get(utt_id, (0, 0))
        phones = tuple(self._phones[word] for word in self._word[first:end])
        return self._edges_s[first:end], phones, self._affect_WA[first:end]


def load(
    root: Path, utterances: pd.DataFrame, label: str, words: pd.DataFrame, work: Path
) -> MappedUtterances:
    """Compute the log-mel frames of utterances and store them in a temporary memory-mapped file.

    Args:
        root: results folder of the run.
        utterances: rows of the UTTERANCES table.
        label: label of the progress line.
        words: the WORDS table with columns of V, A, D and the emotions (`labelled_words`).
        work: folder of the temporary file, 16 kB per second of speech. The file has no name, so it
            is removed whenever the process ends.

    Raises:
        HproError: an audio file is missing, unreadable, empty, or not 16 kHz mono.
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
    set_words = _Words(words[words["utt_id"].isin(utterances["utt_id"])])
    return MappedUtterances(frames_FM, np.array(ends), columns, set_words, np.arange(len(ends)))


def spectra(root: Path, paths: Iterable[str]) -> Iterator[np.ndarray]:
    """Yield the log-mel frames, float16 (4 L, 80), of each audio file at a path relative to `root`.

    Raises:
        HproError: an audio file is missing, unreadable, empty, or not 16 kHz mono.
    """
    frontend = MelFrontend()
    for path in paths:
        yield frontend.analyse(torch.from_numpy(read_audio(root / path))).half().numpy()


def by_corpus(utterances: Sequence[Utterance]) -> dict[str, Sequence[Utterance]]:
    """Group utterances by corpus, in the order in which the corpora first appear."""
    return _grouped(utterances, [corpus for corpus, _ in _voices(utterances)])


def labelled_words(root: Path) -> pd.DataFrame:
    """Read the WORDS table of a run and join V, A, D of each word and the emotion posterior.

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
            f"{root}/label: {len(unknown)} words have no label; the first is word "
            f"{unknown['word_index'].iloc[0]} of {unknown['utt_id'].iloc[0]}: "
            "run `hpro label` again"
        )
    return joined


def _at_tokens(affect_WA: np.ndarray, edges_W2: np.ndarray, size: int) -> np.ndarray:
    """Expand the affect of words to tokens, float32 (L, A); NaN outside of words."""
    affect_LA = np.full((size, N_AFFECT), np.nan, dtype=np.float32)
    for row_A, (first, end) in zip(affect_WA, edges_W2, strict=True):
        affect_LA[first:end] = row_A
    return affect_LA


def read_audio(path: Path) -> np.ndarray:
    """Read a 16 kHz mono WAV file, float32 (T,).

    Raises:
        HproError: the file is missing, unreadable, empty, or not 16 kHz mono.
    """
    return read_wav(path, SAMPLE_RATE_HZ, "run the corpus stage again")


def pad_mels(mels: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Stack log-mel frames, (4 L, 80) each, of several lengths.

    Returns:
        float32 (B, F, 80), padded with SILENCE to the longest; and lengths in tokens, int64 (B,).
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
    """Change the tempo of log-mel frames by cubic spline interpolation in time.

    With linear interpolation the decoder learns blurred spectra. Frequencies are unchanged.

    Args:
        mel_FM: (4 L, 80).
        longer: ratio of the new length to the old one, rounded to whole tokens.

    Returns:
        float32 (4 L', 80), at least one token.
    """
    tokens = max(1, round(len(mel_FM) * longer / FRAMES_PER_TOKEN))
    frames_F = np.linspace(0, len(mel_FM) - 1, tokens * FRAMES_PER_TOKEN)
    spline = CubicSpline(np.arange(len(mel_FM)), mel_FM.astype(np.float32))
    return spline(frames_F).astype(np.float32)


def at_frequencies(mel_FM: np.ndarray, factor: float) -> np.ndarray:
    """Multiply all frequencies of log-mel frames, pitch and formants, by a factor.

    Linear interpolation between bands. With a factor below 1 the highest bands repeat the last one.

    Args:
        mel_FM: (F, 80).
        factor: above 1: as of a shorter vocal tract and a higher voice.

    Returns:
        float32 (F, 80).
    """
    mel_M = (np.arange(N_MELS) + 1) * _hz_to_mel(SAMPLE_RATE_HZ / 2) / (N_MELS + 1)
    hz_M = 700.0 * (10.0 ** (mel_M / 2595.0) - 1.0)  # HTK
    source_M = _hz_to_mel(hz_M / factor) / mel_M[0] - 1
    source_M = source_M.clip(0, N_MELS - 1)
    below_M = np.minimum(source_M.astype(np.int64), N_MELS - 2)
    part_M = (source_M - below_M).astype(np.float32)
    values_FM = mel_FM.astype(np.float32)
    return values_FM[:, below_M] * (1 - part_M) + values_FM[:, below_M + 1] * part_M


def channel_gain(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Draw a smooth gain over the mel bands, float32 (80,) in nats: level, tilt and one bend.

    Args:
        rng: source of the draw.
        spread: standard deviation of the level; that of tilt and bend is half of it.
    """
    phase_M = np.pi * (np.arange(N_MELS) + 0.5) / N_MELS
    level, tilt, bend = rng.normal(size=3) * np.array([1.0, 0.5, 0.5]) * spread
    return (level + tilt * np.cos(phase_M) + bend * np.cos(2 * phase_M)).astype(np.float32)


def _hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


def _resample_affect(affect_LA: np.ndarray, size: int) -> np.ndarray:
    """Resample the affect of tokens to `size` tokens by nearest neighbour in time."""
    middles = (np.arange(size) + 0.5) * len(affect_LA) / size
    return affect_LA[middles.astype(np.int64)]


def _voices(utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    """List corpus and speaker of each utterance."""
    if isinstance(utterances, MappedUtterances):
        return utterances.speakers()
    return [(u.corpus, u.speaker) for u in utterances]


def _grouped(
    utterances: Sequence[Utterance], keys: Sequence[KeyT]
) -> dict[KeyT, Sequence[Utterance]]:
    """Group utterances by key, in the order in which the keys first appear."""
    positions: dict[KeyT, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    if isinstance(utterances, MappedUtterances):
        return {key: utterances.chosen(np.array(among)) for key, among in positions.items()}
    return {key: [utterances[i] for i in among] for key, among in positions.items()}


class CropSampler:
    """Draws the crops of a step as a pure function of seed and step, so that a resume is exact."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        batch_size: int,
        segment_s: float,
        seed: int,
        tempo_spread: float = 0.0,
        voice_spread: float = 0.0,
        channel_spread: float = 0.0,
    ):
        """
        Args:
            utterances: utterances to draw from.
            batch_size: crops per batch.
            segment_s: length of a crop before its tempo changes; shorter utterances are used whole.
            seed: seed of all draws.
            tempo_spread: largest absolute natural logarithm of the length ratio; 0: no change.
            voice_spread: largest absolute natural logarithm of the frequency ratio; 0: no change.
            channel_spread: see `channel_gain`; 0: no change.
        """
        self.batch_size = batch_size
        self.tokens = max(1, round(segment_s * TOKEN_RATE_HZ))
        self.seed = seed
        self.tempo_spread = tempo_spread
        self.voice_spread = voice_spread
        self.channel_spread = channel_spread
        self._sets = by_corpus(utterances)
        self._speakers = _grouped(utterances, _voices(utterances))

    def batch_at(self, step: int) -> Crops:
        """Draw the crops of a step."""
        rng = np.random.default_rng([self.seed, step])
        sets = list(self._sets.values())
        chosen = []
        for i in range(self.batch_size):
            members = sets[(i + step) % len(sets)]
            chosen.append(members[int(rng.integers(len(members)))])
        mels, phones, affects = zip(*(self._crop_at_tempo(u, rng) for u in chosen), strict=True)
        references = [self._crop(self._reference(u, rng).mel_FM, rng) for u in chosen]
        if self.tempo_spread:
            longer_B = np.exp(rng.uniform(-self.tempo_spread, self.tempo_spread, len(chosen)))
            mels = tuple(map(at_tempo, mels, longer_B))
            sizes = [len(mel) // FRAMES_PER_TOKEN for mel in mels]
            affects = tuple(map(_resample_affect, affects, sizes))
        if self.voice_spread:
            factor_B = np.exp(rng.uniform(-self.voice_spread, self.voice_spread, len(chosen)))
            mels = tuple(map(at_frequencies, mels, factor_B))
            references = list(map(at_frequencies, references, factor_B))
        if self.channel_spread:
            gains = [channel_gain(rng, self.channel_spread) for _ in chosen]
            mels, references = (
                [
                    np.maximum(mel_FM + gain_M, SILENCE)
                    for mel_FM, gain_M in zip(of, gains, strict=True)
                ]
                for of in (mels, references)
            )
        labels = *_padded_phones(phones), _padded_affect(affects)
        return Crops(*pad_mels(mels), *pad_mels(references), *labels)

    def _crop_at_tempo(
        self, utterance: Utterance, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
        """Cut one or more whole words with adjacent pauses; return frames, phones and affect."""
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
        next_start = int(edges_W2[stop, 0]) if stop < n_words else size
        end = max(int(edges_W2[stop - 1, 1]), min(next_start, start + self.tokens))
        phones = tuple(chain.from_iterable(utterance.phones[first:stop]))
        mel_FM = utterance.mel_FM[start * FRAMES_PER_TOKEN : end * FRAMES_PER_TOKEN]
        return mel_FM, phones, utterance.affect_LA[start:end]

    def _crop(self, mel_FM: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frames = self.tokens * FRAMES_PER_TOKEN
        start = int(rng.integers(max(1, len(mel_FM) - frames + 1)))
        return mel_FM[start : start + frames]

    def _reference(self, utterance: Utterance, rng: np.random.Generator) -> Utterance:
        """Draw another utterance of the speaker, or the same one if there is no other."""
        others = self._speakers[utterance.corpus, utterance.speaker]
        choice = int(rng.integers(len(others)))
        chosen = others[choice]
        return others[choice - 1] if chosen.utt_id == utterance.utt_id else chosen
