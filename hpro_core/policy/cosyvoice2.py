"""CosyVoice2's language model as policy: Qwen2.5-0.5B over text tokens and speech tokens.

The layout is unistream: [sos, text, task, speech]. For zero-shot synthesis the text is the
reference's text followed by the sentence, and the speech starts with the reference's tokens. The
sequence has no speaker embedding: the flow sets the timbre.

Each part of a sequence is padded at its own end, so a sequence has gaps. Gaps are masked as keys
and take no position, so they do not change the result.

Letters: B batch, S text token, L speech token, P place in the padded sequence, H width, V output
class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpro_core.policy.interface import N_OUTPUTS, Cache, Output
from hpro_core.policy.qwen2 import Qwen2, Qwen2Sizes, causal_mask
from hpro_core.train.batching import Batch


@dataclass(frozen=True)
class CosyVoice2Config:
    """Sizes of the language model; the defaults are those of Qwen2.5-0.5B in CosyVoice2."""

    width: int = 896
    blocks: int = 24
    heads: int = 14
    key_heads: int = 2
    hidden: int = 4864
    vocabulary: int = 151_936
    rope_theta: float = 1e6
    norm_eps: float = 1e-6


class CosyVoice2LM(nn.Module):
    """Qwen2 with its text embedding, a speech embedding, two special vectors and a speech head."""

    kind = "cosyvoice2"

    def __init__(self, config: CosyVoice2Config, checkpointing: bool = False):
        """
        Args:
            config: model sizes.
            checkpointing: whether to use gradient checkpointing per block: less memory, a third
                more time.
        """
        super().__init__()
        self.config = config
        self.qwen = Qwen2(_sizes(config), checkpointing)
        self.special_embedding = nn.Embedding(2, config.width)  # sos, task
        self.speech_embedding = nn.Embedding(N_OUTPUTS, config.width)
        self.speech_head = nn.Linear(config.width, N_OUTPUTS)

    def forward(self, batch: Batch, guides: bool = False) -> Output:
        """Predict every speech token of the batch from its text and history, without a prompt.

        Args:
            batch: text and history; the reference is not used.
            guides: ignored; this policy has no auxiliary outputs.

        Returns:
            The logits, (B, L + 1, V), with gradients.
        """
        prefix, prefix_mask = self._prefix(batch, None)
        vectors = torch.cat([prefix, self.speech_embedding(batch.history_BL)], dim=1)
        mask = torch.cat([prefix_mask, batch.token_mask_BL], dim=1)
        hidden = self.qwen(vectors, _positions(mask), causal_mask(mask.shape[1], mask))
        task = prefix.shape[1] - 1  # predicts the first speech token
        return Output(self.logits(hidden[:, task:]))

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits of the output classes, (..., V), from hidden states (..., H)."""
        return self.speech_head(hidden)

    @torch.no_grad()
    def begin(
        self, batch: Batch, capacity: int, prompt: Batch | None = None
    ) -> tuple[Tensor, Cache]:
        """Run the prefix and fill a new cache; no gradients.

        Args:
            batch: texts.
            capacity: largest number of speech tokens that follow.
            prompt: reference utterance of each row with text and speech tokens, or None.

        Returns:
            The hidden state that predicts the first generated token, (B, H), and the cache.
        """
        vectors, mask = self._prefix(batch, prompt)
        cache = Cache.empty(self.config.blocks, mask, mask.sum(-1) - 1, capacity)
        allowed = causal_mask(mask.shape[1], mask)
        hidden = self.qwen(vectors, _positions(mask), allowed, cache.keys_values)
        place_P = torch.arange(mask.shape[1], device=mask.device)
        last_B = (mask * place_P).argmax(-1)
        return hidden[torch.arange(len(hidden), device=mask.device), last_B], cache

    @torch.no_grad()
    def read(self, tokens_BL: Tensor, cache: Cache) -> Tensor:
        """Append speech tokens to the cache; return the hidden states after each, (B, L, H)."""
        return cache.read(self.qwen, self.speech_embedding(tokens_BL))

    def _prefix(self, batch: Batch, prompt: Batch | None) -> tuple[Tensor, Tensor]:
        """Build the prefix of the predicted speech: vectors (B, P, H) and mask (B, P)."""
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


def _positions(mask_BP: Tensor) -> Tensor:
    """Compute rotary positions, int64 (B, P), that skip the gaps."""
    return (mask_BP.cumsum(-1) - 1).clamp(min=0)


def _sizes(config: CosyVoice2Config) -> Qwen2Sizes:
    return Qwen2Sizes(
        width=config.width,
        blocks=config.blocks,
        heads=config.heads,
        key_heads=config.key_heads,
        hidden=config.hidden,
        vocabulary=config.vocabulary,
        rope_theta=config.rope_theta,
        norm_eps=config.norm_eps,
    )
