"""CosyVoice2's language model as policy: Qwen2.5-0.5B over text tokens and speech tokens.

Unistream layout [sos, text, task, speech]; zero-shot, the text is the reference's followed by the
sentence's, and the speech begins with the reference's tokens. There is no speaker embedding in it:
the timbre comes from the flow.

Rows are padded where their parts end, so a sequence has gaps. A gap is masked as a key and takes no
position: the rest is as if it were not there.

Letters: B batch, S text token, L speech token, P place in the padded sequence, H width, V output
class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, Qwen2Config, Qwen2Model

from hpro_core.engine.batching import Batch
from hpro_core.policy.interface import N_OUTPUTS, Cache, Output


@dataclass(frozen=True)
class CosyVoice2Config:
    """Sizes of the language model; the defaults are those of Qwen2.5-0.5B, CosyVoice2's."""

    width: int = 896
    blocks: int = 24
    heads: int = 14
    key_heads: int = 2
    hidden: int = 4864
    vocabulary: int = 151_936
    rope_theta: float = 1e6
    norm_eps: float = 1e-6


class CosyVoice2LM(nn.Module):
    """Qwen2 with its own text table, a speech table, two special vectors and a speech head."""

    kind = "cosyvoice2"

    def __init__(self, config: CosyVoice2Config, checkpointing: bool = False):
        """
        Args:
            config: sizes.
            checkpointing: keep only each block's input for the backward pass and compute the rest
                again there: less memory, a third more time.
        """
        super().__init__()
        self.config = config
        self.checkpointing = checkpointing
        self.qwen = Qwen2Model(_qwen_config(config))
        self.special_embedding = nn.Embedding(2, config.width)  # sos, task
        self.speech_embedding = nn.Embedding(N_OUTPUTS, config.width)
        self.speech_head = nn.Linear(config.width, N_OUTPUTS)
        if checkpointing:
            self.qwen.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, batch: Batch) -> Output:
        """Predict every speech token of the batch from its history, without a prompt.

        Args:
            batch: text and history; its reference is not read.
        """
        prefix, prefix_mask = self._prefix(batch, None)
        vectors = torch.cat([prefix, self.speech_embedding(batch.history_BL)], dim=1)
        mask = torch.cat([prefix_mask, batch.token_mask_BL], dim=1)
        hidden = self._read(vectors, mask, None)
        task = prefix.shape[1] - 1  # predicts the first speech token
        return Output(self.logits(hidden[:, task:]))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the output classes, (..., V)."""
        return self.speech_head(hidden)

    def begin(self, batch: Batch, prompt: Batch | None = None) -> tuple[Tensor, Cache]:
        """Read everything before the first speech token to be drawn.

        Args:
            batch: texts.
            prompt: a reference utterance for each row, its text and speech tokens; or none.

        Returns:
            The hidden state that predicts the first token, (B, H), and the cache.
        """
        vectors, mask = self._prefix(batch, prompt)
        cache = Cache(DynamicCache(config=self.qwen.config), mask, mask.sum(-1) - 1)
        hidden = self._read(vectors, mask, cache)
        place_P = torch.arange(mask.shape[1], device=mask.device)
        last_B = (mask * place_P).argmax(-1)
        return hidden[torch.arange(len(hidden), device=mask.device), last_B], cache

    def advance(self, tokens_B: Tensor, cache: Cache) -> Tensor:
        """Read one more speech token per row; the hidden state that predicts the next, (B, H)."""
        cache.mask_BP = functional.pad(cache.mask_BP, (0, 1), value=True)
        cache.position_B = cache.position_B + 1
        output = self.qwen(
            inputs_embeds=self.speech_embedding(tokens_B)[:, None],
            position_ids=cache.position_B[:, None],
            attention_mask={"full_attention": cache.mask_BP[:, None, None, :]},
            past_key_values=cache.keys_values,
            use_cache=True,
        )
        return output.last_hidden_state[:, 0]

    def _prefix(self, batch: Batch, prompt: Batch | None) -> tuple[Tensor, Tensor]:
        """Everything before the speech to be predicted: vectors (B, P, H) and mask (B, P)."""
        sos_B1 = torch.zeros_like(batch.symbols_BS[:, :1])
        one_B1 = torch.ones_like(sos_B1, dtype=torch.bool)
        texts = [batch] if prompt is None else [prompt, batch]
        vectors = [
            self.special_embedding(sos_B1),
            *(self.qwen.embed_tokens(text.symbols_BS) for text in texts),
            self.special_embedding(sos_B1 + 1),
        ]
        masks = [one_B1, *(text.symbol_mask_BS for text in texts), one_B1]
        if prompt is not None:
            vectors.append(self.speech_embedding(prompt.tokens_BL))
            masks.append(prompt.token_mask_BL)
        return torch.cat(vectors, dim=1), torch.cat(masks, dim=1)

    def _read(self, vectors_BPH: Tensor, mask_BP: Tensor, cache: Cache | None) -> Tensor:
        """Qwen2's last hidden states, (B, P, H); in a gap they mean nothing."""
        if self.checkpointing:
            # transformers recomputes a block in training mode only, where it also ignores a cache.
            # Rewards train a policy in eval mode; nothing else in a block asks for its mode.
            for block in self.qwen.layers:
                block.training = cache is None and torch.is_grad_enabled()
        size = mask_BP.shape[1]
        causal_PP = torch.ones(size, size, dtype=torch.bool, device=mask_BP.device).tril()
        output = self.qwen(
            inputs_embeds=vectors_BPH,
            position_ids=(mask_BP.cumsum(-1) - 1).clamp(min=0),
            attention_mask={"full_attention": causal_PP & mask_BP[:, None, None, :]},
            past_key_values=None if cache is None else cache.keys_values,
            use_cache=cache is not None,
        )
        return output.last_hidden_state


def _qwen_config(config: CosyVoice2Config) -> Qwen2Config:
    qwen = Qwen2Config(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.blocks,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_heads,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        use_cache=False,
    )
    qwen._attn_implementation = "sdpa"
    return qwen
