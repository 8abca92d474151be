"""The codec as a reward, one sample of one utterance at a time: no batch, no padding, no mask.

Letters: L frame, D width, H head, K width of a head, J text position, W word, V speech token.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from reference.tables import token_rows

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Read:
    """What the codec makes of one utterance."""

    content_LD: Tensor  # in [0, 1], before rounding
    style_LD: Tensor
    emotion_9: Tensor  # logits
    vad_W3: Tensor
    text_JV: Tensor  # logits of the next symbol


class Codec:
    """The frozen codec of the base."""

    def __init__(self, folder: Path):
        """`folder`: with model.safetensors (float32) and config.json."""
        self.weights = load_file(folder / "model.safetensors")
        self.sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
        self.rows_VD = token_rows(self.weights, "embedding")

    def codes(self, onehot_LV: Tensor) -> tuple[Tensor, Tensor]:
        """Content and style code before rounding, (L, 4) and (L, 3) in [0, 1]."""
        content_LD, style_LD = self._features(onehot_LV)
        return self._content_code(content_LD), self._style_code(style_LD)

    def read(self, onehot_LV: Tensor, spans: list[tuple[int, int]], text_J: Tensor) -> Read:
        """Read speech tokens.

        Args:
            onehot_LV: a row per frame.
            spans: first and one-past-last frame of each word.
            text_J: the transcript's symbols, the begin symbol first.
        """
        content_LD, style_LD = self._features(onehot_LV)
        emotion_LD = self._encoder("emotion_adapter", style_LD)
        return Read(
            content_LD=self._content_code(content_LD),
            style_LD=self._style_code(style_LD),
            emotion_9=self._emotion(emotion_LD),
            vad_W3=torch.stack([self._word(emotion_LD[a:b]) for a, b in spans]),
            text_JV=self._text(self._encoder("content_adapter", content_LD), text_J),
        )

    def _features(self, onehot_LV: Tensor) -> tuple[Tensor, Tensor]:
        vectors_LD = onehot_LV @ self.rows_VD
        content_LD = self._encoder("content_extractor", vectors_LD)
        return content_LD, self._encoder("style_extractor", vectors_LD)

    def _content_code(self, content_LD: Tensor) -> Tensor:
        adapted_LD = self._encoder("modulation_adapter", content_LD)
        return torch.sigmoid(self._linear("to_content_code", adapted_LD))

    def _style_code(self, style_LD: Tensor) -> Tensor:
        return torch.sigmoid(self._linear("to_style_code", style_LD))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(
            x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        )

    def _norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, eps)

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(0, 1)

    def _encoder(self, name: str, x_LD: Tensor) -> Tensor:
        width = x_LD.shape[1]
        x_LD = self._norm(f"{name}.input.1", self._linear(f"{name}.input.0", x_LD))
        x_LD = x_LD * math.sqrt(width)
        block = 0
        while f"{name}.blocks.{block}.w_1.weight" in self.weights:
            here = f"{name}.blocks.{block}"
            normed = self._norm(f"{here}.norm_attention", x_LD, 1e-12)
            x_LD = x_LD + self._relative_attention(f"{here}.attention", normed)
            normed = self._norm(f"{here}.norm_feed_forward", x_LD, 1e-12)
            inner = functional.silu(self._linear(f"{here}.w_1", normed))
            x_LD = x_LD + self._linear(f"{here}.w_2", inner)
            block += 1
        return self._norm(f"{name}.norm", x_LD)

    def _relative_attention(self, name: str, x_LD: Tensor) -> Tensor:
        """Transformer-XL, eq. 3.3: scores of content and of the distance to an earlier frame."""
        size, width = x_LD.shape
        heads = self.sizes["heads"]
        q, k, v = (self._heads(self._linear(f"{name}.linear_{n}", x_LD), heads) for n in "qkv")
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        angle = torch.arange(size)[:, None] * rate
        distance_LD = torch.empty(size, width)
        distance_LD[:, 0::2], distance_LD[:, 1::2] = angle.sin(), angle.cos()
        p = self._heads(self._linear(f"{name}.linear_pos", distance_LD), heads)
        bias_u = self.weights[f"{name}.pos_bias_u"][:, None]
        bias_v = self.weights[f"{name}.pos_bias_v"][:, None]
        content = (q + bias_u) @ k.transpose(1, 2)
        by_distance = (q + bias_v) @ p.transpose(1, 2)
        frame = torch.arange(size)
        back = frame[:, None] - frame
        place = back.clamp(min=0).expand(heads, size, size)
        scores = (content + by_distance.gather(2, place)) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(back < 0, -torch.inf).softmax(-1)
        return self._linear(f"{name}.linear_out", (weights @ v).transpose(0, 1).flatten(1))

    def _attention(self, name: str, x: Tensor, memory: Tensor, heads: int, causal: bool) -> Tensor:
        """Whisper's attention."""
        q = self._heads(self._linear(f"{name}.q_proj", x), heads)
        k = self._heads(self._linear(f"{name}.k_proj", memory), heads)
        v = self._heads(self._linear(f"{name}.v_proj", memory), heads)
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if causal:
            later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
        return self._linear(f"{name}.out_proj", mixed)

    def _text(self, adapted_LD: Tensor, text_J: Tensor) -> Tensor:
        memory = self._linear("text_decoder.affine", adapted_LD)
        frame = torch.arange(len(memory))[:, None]
        rate = torch.exp(torch.arange(0, memory.shape[1], 2) * (-9.21034 / memory.shape[1]))
        memory = memory + torch.cat([torch.sin(frame * rate), torch.cos(frame * rate)], dim=1)
        decoder, heads = "text_decoder.decoder", self.sizes["text_heads"]
        tokens = self.weights[f"{decoder}.embed_tokens.weight"]
        x = tokens[text_J] + self.weights[f"{decoder}.embed_positions.weight"][: len(text_J)]
        for block in range(self.sizes["text_blocks"]):
            here = f"{decoder}.layers.{block}"
            normed = self._norm(f"{here}.self_attn_layer_norm", x)
            x = x + self._attention(f"{here}.self_attn", normed, normed, heads, causal=True)
            normed = self._norm(f"{here}.encoder_attn_layer_norm", x)
            x = x + self._attention(f"{here}.encoder_attn", normed, memory, heads, causal=False)
            inner = self._linear(f"{here}.fc1", self._norm(f"{here}.final_layer_norm", x))
            x = x + self._linear(f"{here}.fc2", functional.gelu(inner))
        return self._norm(f"{decoder}.layer_norm", x) @ tokens.T

    def _emotion(self, emotion_LD: Tensor) -> Tensor:
        """A query per class looks at all frames."""
        heads, here = self.sizes["emotion_heads"], "emotion_head.attention"
        weight, bias = self.weights[f"{here}.in_proj_weight"], self.weights[f"{here}.in_proj_bias"]
        inputs = (self.weights["emotion_head.queries"], emotion_LD, emotion_LD)
        parts = zip(inputs, weight.chunk(3), bias.chunk(3), strict=True)
        q, k, v = (self._heads(functional.linear(x, w, b), heads) for x, w, b in parts)
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
        seen = self._linear(f"{here}.out_proj", (weights @ v).transpose(0, 1).flatten(1))
        inner = functional.silu(self._linear("emotion_head.mlp.0", seen))
        return functional.silu(self._linear("emotion_head.mlp.2", inner)).mean(-1)

    def _word(self, frames_LD: Tensor) -> Tensor:
        """Valence, arousal and dominance of a word from the mean of its frames."""
        pooled = functional.silu(self._linear("word_vad_head.frame.0", frames_LD)).mean(0)
        inner = functional.silu(self._linear("word_vad_head.word.0", pooled))
        return torch.sigmoid(self._linear("word_vad_head.word.2", inner))
