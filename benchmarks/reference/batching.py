"""A batch of a step, cell by cell. Letters as in hpro_core.engine.batching."""

import numpy as np
import torch
from torch import Tensor

from hpro_core.train.batching import Example


def batch_at(examples: list[Example], size: int, seed: int, step: int) -> dict[str, Tensor]:
    """The fields of the batch: an epoch's shuffle, sorted by length in windows of eight batches."""
    per_epoch = len(examples) // size
    epoch, position = divmod(step - 1, per_epoch)
    rng = np.random.default_rng([seed, 0, epoch])
    order = [int(i) for i in rng.permutation(len(examples))[: per_epoch * size]]
    batches: list[list[int]] = []
    for start in range(0, len(order), 8 * size):
        window = sorted(order[start : start + 8 * size], key=lambda i: len(examples[i].tokens))
        batches += [window[at : at + size] for at in range(0, len(window), size)]
    chosen = batches[int(rng.permutation(per_epoch)[position])]
    rng = np.random.default_rng([seed, 1, step])
    voices = [voice_for(examples, index, rng) for index in chosen]
    rows = [examples[index] for index in chosen]
    spans = [frames_of(e.spans_s, len(e.tokens)) for e in rows]
    return {
        "symbols_BS": padded([e.symbols for e in rows], torch.int64),
        "symbol_word_BS": padded([e.symbol_word for e in rows], torch.int64),
        "symbol_lengths_B": torch.tensor([len(e.symbols) for e in rows]),
        "transcript_BJ": padded([e.transcript for e in rows], torch.int64),
        "transcript_lengths_B": torch.tensor([len(e.transcript) for e in rows]),
        "tokens_BL": padded([e.tokens for e in rows], torch.int64),
        "history_BL": padded([e.tokens for e in rows], torch.int64),
        "token_lengths_B": torch.tensor([len(e.tokens) for e in rows]),
        "reference_BE": torch.tensor(np.array(voices)),
        "emotion_B9": torch.tensor(np.array([e.emotion for e in rows])),
        "spans_BW2": padded(spans, torch.int64),
        "vad_BW3": padded([e.vad for e in rows], torch.float32),
        "word_lengths_B": torch.tensor([len(e.words) for e in rows]),
    }


def voice_for(examples: list[Example], index: int, rng: np.random.Generator) -> np.ndarray:
    """The speaker embedding of another utterance of the speaker."""
    mine = examples[index]
    others = [
        i for i, e in enumerate(examples) if (e.corpus, e.speaker) == (mine.corpus, mine.speaker)
    ]
    choice = others[int(rng.integers(len(others)))]
    if choice == index and len(others) > 1:
        choice = others[(others.index(index) + 1) % len(others)]
    return examples[choice].speaker_embedding


def frames_of(spans_s: np.ndarray, n_tokens: int) -> np.ndarray:
    """First and one-past-last token of each word, at least one token each."""
    frames = []
    for start_s, end_s in spans_s:
        start = min(max(int(np.floor(start_s * 25 + 0.500001)), 0), n_tokens - 1)
        end = min(max(int(np.floor(end_s * 25 + 0.500001)), start + 1), n_tokens)
        frames.append((start, end))
    return np.array(frames)


def padded(rows: list[np.ndarray], dtype: torch.dtype) -> Tensor:
    """Rows of different lengths in one tensor, zeros after them."""
    longest = max(len(row) for row in rows)
    table = torch.zeros((len(rows), longest, *rows[0].shape[1:]), dtype=dtype)
    for place, row in enumerate(rows):
        for at, value in enumerate(row):
            table[place, at] = torch.as_tensor(value, dtype=dtype)
    return table
