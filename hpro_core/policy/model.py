"""The embedded policy: a small speech language model, trained from scratch.

The layout is that of CosyVoice2's unistream: [begin, (reference,) text, turn, speech]. The position
of "turn" predicts the first speech token, and the last speech token predicts the end.
Letters: B batch, S text symbol, L speech token, P position in the sequence, H width, V output
class.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.constants import EMOTIONS
from hpro_core.policy.interface import N_OUTPUTS, Cache, Output
from hpro_core.policy.qwen2 import Qwen2, Qwen2Sizes, causal_mask
from hpro_core.speech.token_table import TokenTable
from hpro_core.train.batching import Batch


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes of the policy."""

    width: int
    blocks: int
    heads: int
    hidden: int
    n_symbols: int
    reference_width: int
    dropout: float = 0.1
    factored_tokens: bool = True  # ours: see speech/token_table.py
    tokens_per_symbol: float = 0.0  # ours: > 0 aligns text and speech positions, see `_prefix`


PRESETS: dict[str, dict[str, Any]] = {
    # Ours: sizes that two CPU cores train in minutes (from an earlier experiment).
    "embedded": {"width": 256, "blocks": 5, "heads": 4, "hidden": 704},
    "miniature": {"width": 32, "blocks": 2, "heads": 2, "hidden": 64},
}


class SpeechLM(nn.Module):
    """A small Qwen2 with a text embedding, a reference projection and token tables."""

    kind = "embedded"

    def __init__(self, config: PolicyConfig):
        super().__init__()
        self.config = config
        sizes = Qwen2Sizes(
            width=config.width,
            blocks=config.blocks,
            heads=config.heads,
            key_heads=config.heads,
            hidden=config.hidden,
            vocabulary=1,  # the text table of Qwen2 is not used
        )
        self.text_embedding = nn.Embedding(config.n_symbols, config.width)
        self.special_embedding = nn.Embedding(2, config.width)  # begin, turn
        self.reference_projection = nn.Linear(config.reference_width, config.width)
        self.speech_embedding = TokenTable(config.width, 3, config.factored_tokens, std=0.5)
        self.qwen = Qwen2(sizes)
        self.speech_head = TokenTable(config.width, 3, config.factored_tokens)
        self.head_bias = nn.Parameter(torch.zeros(N_OUTPUTS))
        self.emotion_head = nn.Linear(config.width, len(EMOTIONS))  # at "turn", see `sft_terms`
        self.dropout = nn.Dropout(config.dropout)

    def set_dropout(self, share: float) -> None:
        """Set the dropout probability, in the configuration too, for a further training."""
        self.dropout.p = share
        self.config = replace(self.config, dropout=share)

    def forward(self, batch: Batch, guides: bool = False) -> Output:
        """Predict every speech token of the batch from its text, reference and history.

        Args:
            batch: text, reference embedding and history.
            guides: whether to return the guided head's attention and the emotion logits too.

        Returns:
            The outputs, with gradients.
        """
        prefix, positions, mask = self._prefix(batch)
        speech = self.speech_embedding(batch.history_BL)
        start = positions[:, -1:]  # the position of "turn"
        steps = torch.arange(1, speech.shape[1] + 1, device=start.device)
        positions = torch.cat([positions, start + steps], dim=1)
        mask = torch.cat([mask, batch.token_mask_BL], dim=1)
        vectors = self.dropout(torch.cat([prefix, speech], dim=1))
        allowed = causal_mask(vectors.shape[1], mask)
        first = prefix.shape[1] - 1
        if not guides:
            hidden = self.qwen(vectors, positions, allowed)
            return Output(self.logits(hidden[:, first:]))
        hidden, attention = self.qwen.forward_guided(vectors, positions, allowed)
        symbols = batch.symbols_BS.shape[1]
        return Output(
            logits_BLV=self.logits(hidden[:, first:]),
            text_attention_BLS=attention[:, first:, 2 : 2 + symbols],
            emotion_B9=self.emotion_head(hidden[:, first]),
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits of the output classes, (..., V), from hidden states (..., H)."""
        return functional.linear(hidden, self.speech_head.rows().to(hidden.dtype), self.head_bias)

    def _prefix(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Build the prefix of the speech: vectors (B, P, H), positions (B, P), mask (B, P).

        The position of text symbol j is `j * tokens_per_symbol`, which approximates the time at
        which it is spoken. The position of speech token t is t + 1. The rotary distance between a
        token and its symbol is then always near zero.
        """
        ones = torch.ones_like(batch.symbols_BS[:, :1])
        vectors = [
            self.special_embedding(0 * ones),
            self.reference_projection(batch.reference_BE)[:, None],
            self.text_embedding(batch.symbols_BS),
            self.special_embedding(ones),
        ]
        text = torch.arange(batch.symbols_BS.shape[1], device=ones.device)
        rate = self.config.tokens_per_symbol
        text = (text * rate).expand_as(batch.symbols_BS)
        zero = torch.zeros_like(ones, dtype=text.dtype)
        positions = torch.cat([zero - 2, zero - 1, text, zero], dim=1)
        true = ones.bool()
        mask = torch.cat([true, true, batch.symbol_mask_BS, true], dim=1)
        return torch.cat(vectors, dim=1), positions, mask

    @torch.no_grad()
    def begin(
        self, batch: Batch, capacity: int, prompt: Batch | None = None
    ) -> tuple[Tensor, Cache]:
        """Run the prefix and fill a new cache; no gradients.

        Args:
            batch: texts and reference embeddings.
            capacity: largest number of speech tokens that follow.
            prompt: ignored; this policy uses only the speaker embedding of the reference.

        Returns:
            The hidden state that predicts the first token, (B, H), and the cache.
        """
        prefix, positions, mask = self._prefix(batch)
        cache = Cache.empty(self.config.blocks, mask, positions[:, -1], capacity)
        allowed = causal_mask(prefix.shape[1], mask)
        hidden = self.qwen(prefix, positions, allowed, cache.keys_values)
        return hidden[:, -1], cache

    @torch.no_grad()
    def read(self, tokens_BL: Tensor, cache: Cache) -> Tensor:
        """Append speech tokens to the cache; return the hidden states after each, (B, L, H)."""
        return cache.read(self.qwen, self.speech_embedding(tokens_BL))
