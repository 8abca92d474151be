"""The terms of fine-tuning, position by position. Letters: P position, S text symbol."""

import torch
from torch import Tensor

from hpro_core.policy.interface import END_OF_SPEECH
from hpro_core.policy.sft import GUIDE_WIDTH_WORDS
from hpro_core.train.batching import Batch
from reference.policy import Policy


def sft(
    policy: Policy, batch: Batch, guided_attention_weight: float, emotion_weight: float
) -> dict:
    """Cross-entropy, attention guide, emotion of the text, and their weighted sum."""
    read = policy.read(batch)
    surprises, guides, emotions = [], [], []
    for row, length in enumerate(batch.token_lengths_B.tolist()):
        log_p_PV = read.logits_BPV[row].log_softmax(-1)
        for position, token in enumerate([*batch.tokens_BL[row, :length].tolist(), END_OF_SPEECH]):
            surprises.append(-log_p_PV[position, token])
        attention_PS = read.text_attention_BPS[row]
        guides += guided(attention_PS, batch, row)
        emotions.append(-(batch.emotion_B9[row] * read.emotion_B9[row].log_softmax(-1)).sum())
    ce, guide = torch.stack(surprises).mean(), torch.stack(guides).mean()
    emotion = torch.stack(emotions).mean()
    return {
        "loss": ce + guided_attention_weight * guide + emotion_weight * emotion,
        "ce": ce,
        "attention_guide": guide,
        "text_emotion": emotion,
    }


def guided(attention_PS: Tensor, batch: Batch, row: int) -> list[Tensor]:
    """Minus log of the attention near the symbol being spoken, of each token inside a word."""
    n_symbols = int(batch.symbol_lengths_B[row])
    word_of_symbol = batch.symbol_word_BS[row, :n_symbols].tolist()
    words = int(batch.word_lengths_B[row])
    spans = batch.spans_BW2[row, :words].tolist()
    losses = []
    for token in range(int(batch.token_lengths_B[row])):
        spoken = [word for word, (start, end) in enumerate(spans) if start <= token < end]
        if not spoken:
            continue
        expected = []
        for word in spoken:
            start, end = spans[word]
            first, count = word_of_symbol.index(word), word_of_symbol.count(word)
            expected.append(first + (token - start + 0.5) / (end - start) * count - 0.5)
        middle = sum(expected) / len(expected)
        near = [
            symbol
            for symbol in range(n_symbols)
            if abs(symbol - middle) <= GUIDE_WIDTH_WORDS and word_of_symbol[symbol] in spoken
        ]
        hit = attention_PS[token, near].sum() if near else torch.zeros(())
        losses.append(-hit.clamp(min=1e-6).log())
    return losses
