"""The embedded policy: a small speech language model, trained from nothing.

The layout of CosyVoice2's unistream: [begin, (reference,) text, turn, speech]. The position that
holds "turn" predicts the first speech token, and the last speech token predicts the end.
Letters: B batch, S text symbol, L speech token, P position in the sequence, H width, V output
class.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, Qwen2Config, Qwen2Model

from hpro_core.constants import EMOTIONS
from hpro_core.engine.batching import Batch, additive_mask
from hpro_core.engine.token_table import TokenTable
from hpro_core.policy.interface import N_OUTPUTS, Cache, Output


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
    factored_tokens: bool = True  # ours: see engine/token_table.py
    tokens_per_symbol: float = 0.0  # ours: > 0 aligns the positions of text and speech, see below


PRESETS: dict[str, dict[str, Any]] = {
    # Ours: what two CPU cores train in minutes (sizes of the spike).
    "embedded": {"width": 256, "blocks": 5, "heads": 4, "hidden": 704},
    "miniature": {"width": 32, "blocks": 2, "heads": 2, "hidden": 64},
}


class SpeechLM(nn.Module):
    """A small Qwen2 between a text table, a projection of the reference, and token tables."""

    kind = "embedded"

    def __init__(self, config: PolicyConfig):
        super().__init__()
        self.config = config
        qwen = Qwen2Config(
            vocab_size=1,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.blocks,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=4096,
            use_cache=False,
            pad_token_id=None,
        )
        qwen._attn_implementation = "eager"  # the guided head's attention is read
        self.text_embedding = nn.Embedding(config.n_symbols, config.width)
        self.special_embedding = nn.Embedding(2, config.width)  # begin, turn
        self.reference_projection = nn.Linear(config.reference_width, config.width)
        self.speech_embedding = TokenTable(config.width, 3, config.factored_tokens, std=0.5)
        self.qwen = Qwen2Model(qwen)
        self.speech_head = TokenTable(config.width, 3, config.factored_tokens)
        self.head_bias = nn.Parameter(torch.zeros(N_OUTPUTS))
        self.emotion_head = nn.Linear(config.width, len(EMOTIONS))  # asked at "turn", see sft_terms
        self.dropout = nn.Dropout(config.dropout)

    def set_dropout(self, share: float) -> None:
        """For another training than the one that the weights come from."""
        self.dropout.p = share
        self.config = replace(self.config, dropout=share)

    def forward(self, batch: Batch) -> Output:
        """Predict every speech token of the batch from its history.

        Args:
            batch: text, reference and history.
        """
        prefix, positions, mask = self._prefix(batch)
        speech = self.speech_embedding(batch.history_BL)
        length = speech.shape[1]
        start = positions[:, -1:]  # the position of "turn"
        steps = torch.arange(1, length + 1, device=start.device)
        positions = torch.cat([positions, start + steps], dim=1)
        mask = torch.cat([mask, batch.token_mask_BL], dim=1)
        hidden = self.dropout(torch.cat([prefix, speech], dim=1))
        hidden, attention = self._attend(hidden, positions, mask)
        first = prefix.shape[1] - 1
        symbols = batch.symbols_BS.shape[1]
        return Output(
            logits_BLV=self.logits(hidden[:, first:]),
            text_attention_BLS=attention[:, first:, 2 : 2 + symbols],
            emotion_B9=self.emotion_head(hidden[:, first]),
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the output classes, (..., V)."""
        return functional.linear(hidden, self.speech_head.rows().to(hidden.dtype), self.head_bias)

    def _prefix(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Everything before the speech: vectors (B, P, H), positions (B, P), mask (B, P).

        Text symbol j stands at `j * tokens_per_symbol`, about where it will be spoken, speech token
        t at t + 1; the rotary distance between a token and its symbol is then always near zero.
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

    def _attend(self, hidden_BPH: Tensor, positions_BP: Tensor, mask_BP: Tensor):
        """Qwen2 over the whole sequence; also the attention of the guided head, (B, P, P)."""
        size = hidden_BPH.shape[1]
        causal = torch.ones(size, size, dtype=torch.bool, device=mask_BP.device).tril()
        seen: dict[str, Tensor] = {}
        guided = self.qwen.get_submodule("layers.1.self_attn")
        handle = guided.register_forward_hook(
            lambda module, inputs, output: seen.update(weights=output[1][:, 0])
        )
        try:
            output = self.qwen(
                inputs_embeds=hidden_BPH,
                position_ids=positions_BP,
                attention_mask={
                    "full_attention": additive_mask(
                        causal & mask_BP[:, None, None, :], hidden_BPH.dtype
                    )
                },
            )
        finally:
            handle.remove()
        return output.last_hidden_state, seen["weights"]

    def begin(self, batch: Batch, prompt: Batch | None = None) -> tuple[Tensor, Cache]:
        """Read everything before the speech; the hidden state that predicts the first token.

        Of the reference this policy reads the speaker embedding, which is in `batch`; the text and
        the tokens of `prompt` are not read.
        """
        prefix, positions, mask = self._prefix(batch)
        size = prefix.shape[1]
        causal = torch.ones(size, size, dtype=torch.bool, device=mask.device).tril()
        cache = Cache(DynamicCache(config=self.qwen.config), mask, positions[:, -1])
        output = self.qwen(
            inputs_embeds=prefix,
            position_ids=positions,
            attention_mask={
                "full_attention": additive_mask(causal & mask[:, None, None, :], prefix.dtype)
            },
            past_key_values=cache.keys_values,
            use_cache=True,
        )
        return output.last_hidden_state[:, -1], cache

    def advance(self, tokens_B: Tensor, cache: Cache) -> Tensor:
        """Read one more speech token per row; the hidden state that predicts the next, (B, H)."""
        vectors = self.speech_embedding(tokens_B)[:, None]
        cache.mask_BP = functional.pad(cache.mask_BP, (0, 1), value=True)
        cache.position_B = cache.position_B + 1
        output = self.qwen(
            inputs_embeds=vectors,
            position_ids=cache.position_B[:, None],
            attention_mask={
                "full_attention": additive_mask(cache.mask_BP[:, None, None, :], vectors.dtype)
            },
            past_key_values=cache.keys_values,
            use_cache=True,
        )
        return output.last_hidden_state[:, -1]
