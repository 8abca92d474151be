"""Utterances as tensors.

Letters: B batch, S text symbol, J transcript position, L speech token, W word, E embedding.

Padding is zero everywhere and never read: lengths say where it starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from hpro_core.constants import TOKEN_RATE_HZ


@dataclass(frozen=True)
class Example:
    """One utterance of the dataset; no audio."""

    utt_id: str
    corpus: str
    speaker: str
    text: str
    words: tuple[str, ...]
    symbols: np.ndarray  # int64 (S,), what the policy reads: phones or its own text tokens
    symbol_word: np.ndarray  # int64 (S,), the word that each phone belongs to; zeros without phones
    transcript: np.ndarray  # int64 (J,), what the codec's text decoder writes, begin and end marked
    tokens: np.ndarray  # int64 (L,), speech tokens at 25 Hz
    speaker_embedding: np.ndarray  # float32 (E,), of this utterance's own audio
    emotion: np.ndarray  # float32 (9,), posterior of the teacher, sums to one
    spans_s: np.ndarray  # float64 (W, 2), start and end of each word in seconds
    vad: np.ndarray  # float32 (W, 3), valence, arousal, dominance of each word in [0, 1]


@dataclass(frozen=True)
class Batch:
    """A batch of utterances, padded with zeros."""

    symbols_BS: Tensor  # int64
    symbol_word_BS: Tensor  # int64
    symbol_lengths_B: Tensor  # int64
    transcript_BJ: Tensor  # int64
    transcript_lengths_B: Tensor  # int64
    tokens_BL: Tensor  # int64
    history_BL: Tensor  # int64, what a policy has read when it predicts: the tokens, or noisy ones
    token_lengths_B: Tensor  # int64
    reference_BE: Tensor  # float32, speaker embedding of a reference utterance
    emotion_B9: Tensor  # float32
    spans_BW2: Tensor  # int64, first and one-past-last token of each word; padding is (0, 0)
    vad_BW3: Tensor  # float32
    word_lengths_B: Tensor  # int64

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def repeated(self, times: int) -> "Batch":
        """The batch so many times, one after the other."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{n: v.repeat(times, *(1,) * (v.ndim - 1)) for n, v in values.items()})

    @property
    def token_mask_BL(self) -> Tensor:
        """True where there is a speech token."""
        return length_mask(self.token_lengths_B, self.tokens_BL.shape[1])

    @property
    def symbol_mask_BS(self) -> Tensor:
        """True where there is a text symbol."""
        return length_mask(self.symbol_lengths_B, self.symbols_BS.shape[1])


def length_mask(lengths_B: Tensor, size: int) -> Tensor:
    """Bool (B, size), true before each row's length."""
    return torch.arange(size, device=lengths_B.device) < lengths_B[:, None]


def spans_to_frames(spans_s: np.ndarray, n_frames: int, rounding: str = "nearest") -> np.ndarray:
    """Word times as token indices.

    Args:
        spans_s: start and end of each word in seconds, (W, 2).
        n_frames: tokens in the utterance; spans are clipped to it.
        rounding: "nearest", or "truncate" as in the released codec, whose weights were trained with
            `int(t * 25)` (1.16 s gives 28 there and 29 here).

    Returns:
        int64 (W, 2), first and one-past-last token. A word so short that both edges round to the
        same one gets the token that begins there, which may be its neighbour's too ("nearest"), or
        stays empty ("truncate", as released).
    """
    frames = np.asarray(spans_s, dtype=np.float64).reshape(-1, 2) * TOKEN_RATE_HZ
    if rounding == "truncate":
        return np.clip(frames.astype(np.int64), 0, n_frames)
    # 1e-6 keeps 1.16 * 25 = 28.999999999999996 on the side of 29.
    edges = np.floor(frames + 0.5 + 1e-6).astype(np.int64)
    starts = np.clip(edges[:, 0], 0, n_frames - 1)
    ends = np.clip(edges[:, 1], starts + 1, n_frames)
    return np.stack([starts, ends], axis=1)


def collate(
    examples: Sequence[Example], references: Sequence[np.ndarray], rounding: str = "nearest"
) -> Batch:
    """Pad utterances into a batch.

    Args:
        examples: B utterances.
        references: B speaker embeddings, each of a reference utterance, (E,).
        rounding: see `spans_to_frames`.
    """
    spans = [spans_to_frames(e.spans_s, len(e.tokens), rounding) for e in examples]
    tokens_BL = _pad([e.tokens for e in examples], torch.int64)
    return Batch(
        symbols_BS=_pad([e.symbols for e in examples], torch.int64),
        symbol_word_BS=_pad([e.symbol_word for e in examples], torch.int64),
        symbol_lengths_B=_lengths([e.symbols for e in examples]),
        transcript_BJ=_pad([e.transcript for e in examples], torch.int64),
        transcript_lengths_B=_lengths([e.transcript for e in examples]),
        tokens_BL=tokens_BL,
        history_BL=tokens_BL,
        token_lengths_B=_lengths([e.tokens for e in examples]),
        reference_BE=torch.as_tensor(np.stack(references), dtype=torch.float32),
        emotion_B9=_pad([e.emotion for e in examples], torch.float32),
        spans_BW2=_pad(spans, torch.int64),
        vad_BW3=_pad([e.vad for e in examples], torch.float32),
        word_lengths_B=_lengths(spans),
    )


def _pad(rows: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
    tensors = [torch.as_tensor(np.ascontiguousarray(row), dtype=dtype) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


def _lengths(rows: Sequence[np.ndarray]) -> Tensor:
    return torch.tensor([len(row) for row in rows], dtype=torch.int64)


class Sampler:
    """Which utterances make up the batch of a step: a pure function of seed and step.

    Every epoch is a fresh shuffle; within a window of several batches utterances are sorted by
    length, so that little is padded. References are other utterances of the same speaker; one that
    is alone (`alone`) is its own.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        seed: int,
        rounding: str = "nearest",
        window: int = 8,
    ):
        """
        Args:
            examples: the training utterances.
            batch_size: utterances in a batch.
            seed: of the shuffles and of the choice of references.
            rounding: of word edges, see `spans_to_frames`.
            window: batches that are sorted by length together.
        """
        self.examples = examples
        self.batch_size = min(batch_size, len(examples))
        self.seed = seed
        self.rounding = rounding
        self.window = window
        self._by_speaker: dict[tuple[str, str], list[int]] = {}
        for i, example in enumerate(examples):
            self._by_speaker.setdefault((example.corpus, example.speaker), []).append(i)
        self.alone = sum(len(members) == 1 for members in self._by_speaker.values())
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass over the data; the remainder of a shuffle is left out."""
        return len(self.examples) // self.batch_size

    def batch_at(self, step: int) -> Batch:
        """The batch of a step (steps count from 1)."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        chosen = self._order[position]
        rng = np.random.default_rng([self.seed, 1, step])
        references = [self._reference(int(i), rng) for i in chosen]
        return collate([self.examples[i] for i in chosen], references, self.rounding)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 0, epoch])
        order = rng.permutation(len(self.examples))[: self.steps_per_epoch * self.batch_size]
        lengths = np.array([len(self.examples[i].tokens) for i in order])
        chunk = self.window * self.batch_size
        starts = range(0, len(order), chunk)
        parts = [
            order[s : s + chunk][np.argsort(lengths[s : s + chunk], kind="stable")] for s in starts
        ]
        batches = np.concatenate(parts).reshape(self.steps_per_epoch, self.batch_size)
        return batches[rng.permutation(self.steps_per_epoch)]

    def _reference(self, index: int, rng: np.random.Generator) -> np.ndarray:
        example = self.examples[index]
        others = self._by_speaker[example.corpus, example.speaker]
        choice = others[int(rng.integers(len(others)))]
        if choice == index and len(others) > 1:
            choice = others[(others.index(index) + 1) % len(others)]
        return self.examples[choice].speaker_embedding


def tell_alone(sampler: Sampler, label: str) -> None:
    """Say how many speakers lack another utterance as reference."""
    if sampler.alone:
        print(
            f"{label}: speakers with one utterance in the train split, which is its own reference: "
            f"{sampler.alone}",
            flush=True,
        )


def sequential_batches(
    examples: Sequence[Example], batch_size: int, rounding: str = "nearest"
) -> list[Batch]:
    """Every utterance once, in order of length, its reference another one of its speaker.

    For dev curves: the same batches of the same utterances, whatever the training's seed.
    """
    sampler = Sampler(examples, batch_size, seed=0)
    rng = np.random.default_rng(0)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].tokens))
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [
        collate([examples[i] for i in c], [sampler._reference(i, rng) for i in c], rounding)
        for c in chunks
    ]
