"""Batches of utterances as padded tensors.

Letters: B batch, S text symbol, J transcript position, L speech token, W word, E embedding.

Padding is zero everywhere. It is never read: the length of each row marks where it starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hpro_core.train.examples import Example, SpeakerIndex, spans_to_frames, token_counts

Items = Literal[
    "utterances", "utterances_with_words", "frames", "frames_in_words", "positions", "symbols",
    "targets",
]  # fmt: skip
"""What a loss term can average over, see `Batch.counts`."""


@dataclass(frozen=True)
class Batch:
    """A batch of utterances, padded with zeros."""

    symbols_BS: Tensor  # int64
    symbol_word_BS: Tensor  # int64
    symbol_lengths_B: Tensor  # int64
    transcript_BJ: Tensor  # int64
    transcript_lengths_B: Tensor  # int64
    tokens_BL: Tensor  # int64
    history_BL: Tensor  # int64, policy input when it predicts the tokens: the tokens, or noisy ones
    token_lengths_B: Tensor  # int64
    reference_BE: Tensor  # float32, speaker embedding of a reference utterance
    emotion_B9: Tensor  # float32
    spans_BW2: Tensor  # int64, first and one-past-last token of each word; padding is (0, 0)
    vad_BW3: Tensor  # float32
    word_lengths_B: Tensor  # int64

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.tokens_BL)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the batch to a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def repeated(self, times: int) -> "Batch":
        """Repeat the rows of the batch `times` times; row b of repeat i is row i * B + b."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{n: v.repeat(times, *(1,) * (v.ndim - 1)) for n, v in values.items()})

    def rows(self, start: int, stop: int) -> "Batch":
        """Slice rows `start` to before `stop`, with padding cut to their longest."""
        symbols, transcript, tokens, words = (
            lengths[start:stop]
            for lengths in (
                self.symbol_lengths_B,
                self.transcript_lengths_B,
                self.token_lengths_B,
                self.word_lengths_B,
            )
        )

        def cut(padded: Tensor, lengths_B: Tensor) -> Tensor:
            return padded[start:stop, : int(lengths_B.max())]

        return Batch(
            symbols_BS=cut(self.symbols_BS, symbols),
            symbol_word_BS=cut(self.symbol_word_BS, symbols),
            symbol_lengths_B=symbols,
            transcript_BJ=cut(self.transcript_BJ, transcript),
            transcript_lengths_B=transcript,
            tokens_BL=cut(self.tokens_BL, tokens),
            history_BL=cut(self.history_BL, tokens),
            token_lengths_B=tokens,
            reference_BE=self.reference_BE[start:stop],
            emotion_B9=self.emotion_B9[start:stop],
            spans_BW2=cut(self.spans_BW2, words),
            vad_BW3=cut(self.vad_BW3, words),
            word_lengths_B=words,
        )

    def counts(self) -> dict[Items, int]:
        """Number of items that a loss term can average over.

        Returns:
            utterances: rows.
            utterances_with_words: rows with a word that covers a speech token.
            frames: speech tokens.
            frames_in_words: speech tokens inside a word.
            positions: speech tokens and the end of speech of each row.
            symbols: text symbols.
            targets: targets of the codec's text decoder.
        """
        utterances, frames = len(self), int(self.token_lengths_B.sum())
        start_BW, end_BW = self.spans_BW2.unbind(-1)
        frame_L11 = torch.arange(self.tokens_BL.shape[1], device=start_BW.device)[:, None, None]
        inside_LBW = (frame_L11 >= start_BW) & (frame_L11 < end_BW)
        return {
            "utterances": utterances,
            "utterances_with_words": int((end_BW > start_BW).any(1).sum()),
            "frames": frames,
            "frames_in_words": int(inside_LBW.any(-1).sum()),
            "positions": frames + utterances,
            "symbols": int(self.symbol_lengths_B.sum()),
            "targets": int((self.transcript_lengths_B - 1).sum()),
        }

    @property
    def token_mask_BL(self) -> Tensor:
        """Bool (B, L), true at speech tokens, false in the padding."""
        return length_mask(self.token_lengths_B, self.tokens_BL.shape[1])

    @property
    def symbol_mask_BS(self) -> Tensor:
        """Bool (B, S), true at text symbols, false in the padding."""
        return length_mask(self.symbol_lengths_B, self.symbols_BS.shape[1])


def length_mask(lengths_B: Tensor, size: int) -> Tensor:
    """Build a bool mask (B, size) that is true before each row's length."""
    return torch.arange(size, device=lengths_B.device) < lengths_B[:, None]


def collate(
    examples: Sequence[Example], references: Sequence[np.ndarray], rounding: str = "nearest"
) -> Batch:
    """Pad utterances into a batch.

    Args:
        examples: B utterances.
        references: B speaker embeddings (E,), one of each row's reference utterance.
        rounding: rounding of word edges, see `spans_to_frames`.

    Returns:
        The batch, on the CPU. Its history is the clean tokens.
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
    """Draws the training batch of a step as a pure function of seed and step.

    Every epoch is a new shuffle. Within a window of several batches utterances are sorted by
    length, which reduces padding. The reference is another utterance of the same speaker. An
    utterance without another one of its speaker is its own reference; `alone` counts them.
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
            examples: training utterances.
            batch_size: utterances per batch, at most the number of examples.
            seed: seed of the shuffles and of the choice of references.
            rounding: rounding of word edges, see `spans_to_frames`.
            window: number of batches that are sorted by length together.
        """
        self.examples = examples
        self.batch_size = min(batch_size, len(examples))
        self.seed = seed
        self.rounding = rounding
        self.window = window
        self._speakers = SpeakerIndex(examples)
        self._token_counts = token_counts(examples)
        self.alone = int((self._speakers.sizes == 1).sum())
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches per epoch; the remainder of a shuffle is left out."""
        return len(self.examples) // self.batch_size

    def batch_at(self, step: int) -> Batch:
        """Build the batch of a step; steps count from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        chosen = self._order[position]
        rng = np.random.default_rng([self.seed, 1, step])
        references = [self._reference(int(i), rng) for i in chosen]
        return collate([self.examples[int(i)] for i in chosen], references, self.rounding)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 0, epoch])
        order = rng.permutation(len(self.examples))[: self.steps_per_epoch * self.batch_size]
        lengths = self._token_counts[order]
        chunk = self.window * self.batch_size
        starts = range(0, len(order), chunk)
        parts = [
            order[s : s + chunk][np.argsort(lengths[s : s + chunk], kind="stable")] for s in starts
        ]
        batches = np.concatenate(parts).reshape(self.steps_per_epoch, self.batch_size)
        return batches[rng.permutation(self.steps_per_epoch)]

    def _reference(self, index: int, rng: np.random.Generator) -> np.ndarray:
        others = self._speakers.of_same_speaker(index)
        choice = others[int(rng.integers(len(others)))]
        if choice == index and len(others) > 1:
            choice = others[(int(np.searchsorted(others, index)) + 1) % len(others)]
        return self.examples[int(choice)].speaker_embedding


def warn_single_utterance_speakers(sampler: Sampler, label: str) -> None:
    """Print the number of speakers whose only utterance is its own reference, if there are any."""
    if sampler.alone:
        print(
            f"{label}: speakers with one utterance in the train split, which is its own reference: "
            f"{sampler.alone}",
            flush=True,
        )


def sequential_batches(
    examples: Sequence[Example], batch_size: int, rounding: str = "nearest"
) -> list[Batch]:
    """Batch every utterance once, in order of length, for dev curves.

    The batches do not depend on the seed of the training.

    Args:
        examples: utterances; the reference of each is another one of its speaker, as in `Sampler`.
        batch_size: utterances per batch; the last batch may be smaller.
        rounding: rounding of word edges, see `spans_to_frames`.
    """
    sampler = Sampler(examples, batch_size, seed=0)
    rng = np.random.default_rng(0)
    order = np.argsort(sampler._token_counts, kind="stable").tolist()
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [
        collate([examples[i] for i in c], [sampler._reference(i, rng) for i in c], rounding)
        for c in chunks
    ]
