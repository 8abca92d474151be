"""Qwen2's decoder: the transformer of both policies, with a cache that can be rewound.

Weights, names and results are those of `transformers.Qwen2Model` (Qwen2 technical report, arXiv
2407.10671; a test compares the two). The implementation is ours, because a reward step runs one
text with several histories: the keys and values of the text are kept, and each history overwrites
the one before. It also avoids the import of transformers, which takes seconds per job.
Letters: B batch, P input position, T attended position (the cache, then P), H width, N head,
D width of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Qwen2Sizes:
    """Sizes of the decoder."""

    width: int
    blocks: int
    heads: int
    key_heads: int  # grouped-query attention: heads that keys and values have
    hidden: int  # width of the feed-forward layer
    vocabulary: int  # rows of the text table
    rope_theta: float = 1e4
    norm_eps: float = 1e-6
    init_std: float = 0.02


class KeyValueCache:
    """Keys and values of past positions, in buffers of a fixed size.

    Positions are written in place, so the cache supports no gradients.
    """

    def __init__(self, blocks: int, capacity: int):
        self.capacity = capacity  # largest number of positions
        self.length = 0
        """Number of cached positions; the next ones are written after them."""
        self._keys: list[Tensor | None] = [None] * blocks
        self._values: list[Tensor | None] = [None] * blocks

    def extended(self, block: int, keys_BNPD: Tensor, values_BNPD: Tensor) -> tuple[Tensor, Tensor]:
        """Append the next positions of a block; return all its keys and values, (B, N, T, D) each.

        Raises:
            ValueError: the capacity is exceeded.
        """
        end = self.length + keys_BNPD.shape[2]
        if end > self.capacity:
            raise ValueError(f"a cache of {self.capacity} positions cannot hold {end}")
        stored = []
        for buffers, new in ((self._keys, keys_BNPD), (self._values, values_BNPD)):
            buffer = buffers[block]
            if buffer is None:
                rows, heads, _, width = new.shape
                buffer = buffers[block] = new.new_empty(rows, heads, self.capacity, width)
            buffer[:, :, self.length : end] = new
            stored.append(buffer[:, :, :end])
        return stored[0], stored[1]

    def rewind(self, length: int) -> None:
        """Remove all positions from index `length` on."""
        self.length = length

    def select_rows(self, places: Tensor) -> None:
        """Keep only the rows at these int64 indices, in their order."""
        for buffers in (self._keys, self._values):
            buffers[:] = [None if buffer is None else buffer[places] for buffer in buffers]


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, sizes: Qwen2Sizes):
        super().__init__()
        self.head_width = sizes.width // sizes.heads
        self.groups = sizes.heads // sizes.key_heads
        key_width = sizes.key_heads * self.head_width
        self.q_proj = nn.Linear(sizes.width, sizes.width)
        self.k_proj = nn.Linear(sizes.width, key_width)
        self.v_proj = nn.Linear(sizes.width, key_width)
        self.o_proj = nn.Linear(sizes.width, sizes.width, bias=False)

    def forward(
        self,
        x_BPH: Tensor,
        rotation: tuple[Tensor, Tensor],
        allowed_B1PT: Tensor,
        extended: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Compute attention, (B, P, H) to (B, P, H); `extended` prepends cached keys and values."""
        queries, keys, values = self._projected(x_BPH, rotation)
        if extended is not None:
            keys, values = extended(keys, values)
        if self.groups > 1:
            keys = keys.repeat_interleave(self.groups, dim=1)
            values = values.repeat_interleave(self.groups, dim=1)
        mixed_BNPD = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=allowed_B1PT
        )
        return self.o_proj(mixed_BNPD.transpose(1, 2).flatten(2))

    def weights_of_first_head(
        self, x_BPH: Tensor, rotation: tuple[Tensor, Tensor], allowed_B1PT: Tensor
    ) -> Tensor:
        """Compute the attention weights of the first head, float32 (B, P, P), without a cache."""
        queries, keys, _ = self._projected(x_BPH, rotation)
        scores_BPP = queries[:, 0] @ keys[:, 0].transpose(1, 2) / self.head_width**0.5
        return scores_BPP.masked_fill(~allowed_B1PT[:, 0], -torch.inf).float().softmax(-1)

    def _projected(
        self, x_BPH: Tensor, rotation: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute rotated queries and keys, and values, (B, N, P, D) each."""
        queries, keys, values = (
            part(x_BPH).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        rotated = [_rotate(part, *rotation).to(values.dtype) for part in (queries, keys)]
        return rotated[0], rotated[1], values


class FeedForward(nn.Module):
    """The gated feed-forward layer (SwiGLU)."""

    def __init__(self, sizes: Qwen2Sizes):
        super().__init__()
        self.gate_proj = nn.Linear(sizes.width, sizes.hidden, bias=False)
        self.up_proj = nn.Linear(sizes.width, sizes.hidden, bias=False)
        self.down_proj = nn.Linear(sizes.hidden, sizes.width, bias=False)

    def forward(self, x_BPH: Tensor) -> Tensor:
        """Transform (B, P, H) to (B, P, H)."""
        return self.down_proj(functional.silu(self.gate_proj(x_BPH)) * self.up_proj(x_BPH))


class Block(nn.Module):
    """Pre-norm transformer block: attention and feed-forward with residuals."""

    def __init__(self, sizes: Qwen2Sizes):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(sizes.width, sizes.norm_eps)
        self.self_attn = Attention(sizes)
        self.post_attention_layernorm = nn.RMSNorm(sizes.width, sizes.norm_eps)
        self.mlp = FeedForward(sizes)

    def forward(
        self,
        x_BPH: Tensor,
        rotation: tuple[Tensor, Tensor],
        allowed_B1PT: Tensor,
        extended: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Transform (B, P, H) to (B, P, H); see `Attention.forward`."""
        attended = self.self_attn(self.input_layernorm(x_BPH), rotation, allowed_B1PT, extended)
        x_BPH = x_BPH + attended
        return x_BPH + self.mlp(self.post_attention_layernorm(x_BPH))


class Qwen2(nn.Module):
    """Qwen2's decoder: input vectors to hidden states."""

    def __init__(self, sizes: Qwen2Sizes, checkpointing: bool = False):
        """`checkpointing`: gradient checkpointing per block: less memory, a third more time."""
        super().__init__()
        self.sizes = sizes
        self.checkpointing = checkpointing
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.blocks))
        self.norm = nn.RMSNorm(sizes.width, sizes.norm_eps)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=sizes.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        x_BPH: Tensor,
        positions_BP: Tensor,
        allowed_B1PT: Tensor,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Compute the normalised hidden states of the last block.

        Args:
            x_BPH: input vectors.
            positions_BP: rotary positions; they need not be integers.
            allowed_B1PT: bool attention mask, true where input position (row) may attend to
                position (column). Columns are the cached positions, then the input positions.
                Each row needs at least one true value.
            cache: keys and values of earlier positions, extended in place; needs no-grad mode.

        Returns:
            float (B, P, H).
        """
        rotation = self._rotation(positions_BP)
        for index, block in enumerate(self.layers):
            if cache is not None:
                x_BPH = block(x_BPH, rotation, allowed_B1PT, partial(cache.extended, index))
            elif self.checkpointing and torch.is_grad_enabled():
                x_BPH = checkpoint(block, x_BPH, rotation, allowed_B1PT, use_reentrant=False)
            else:
                x_BPH = block(x_BPH, rotation, allowed_B1PT)
        if cache is not None:
            cache.length += x_BPH.shape[1]
        return self.norm(x_BPH)

    def forward_guided(
        self, x_BPH: Tensor, positions_BP: Tensor, allowed_B1PP: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute `forward` and the attention weights of block 1's head 0, float32 (B, P, P)."""
        rotation = self._rotation(positions_BP)
        x_BPH = self.layers[0](x_BPH, rotation, allowed_B1PP)
        guided = cast(Block, self.layers[1])
        normed_BPH = guided.input_layernorm(x_BPH)
        weights_BPP = guided.self_attn.weights_of_first_head(normed_BPH, rotation, allowed_B1PP)
        for block in self.layers[1:]:
            x_BPH = block(x_BPH, rotation, allowed_B1PP)
        return self.norm(x_BPH), weights_BPP

    def _rotation(self, positions_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Compute cosine and sine of the rotary embedding, float32 (B, 1, P, D) each."""
        width = self.sizes.width // self.sizes.heads
        exponent = torch.arange(0, width, 2, device=positions_BP.device).float() / width
        rate = 1.0 / self.sizes.rope_theta**exponent
        angle = positions_BP[..., None].float() * rate
        angle = torch.cat([angle, angle], dim=-1)[:, None]
        return angle.cos(), angle.sin()


def causal_mask(size: int, real_BP: Tensor) -> Tensor:
    """Build a causal attention mask, bool (B, 1, P, P).

    `real_BP` is false where a position is padding and must not be attended to.
    """
    causal_PP = torch.ones(size, size, dtype=torch.bool, device=real_BP.device).tril()
    return causal_PP & real_BP[:, None, None, :]


def _rotate(x_BNPD: Tensor, cos_B1PD: Tensor, sin_B1PD: Tensor) -> Tensor:
    """Apply the rotary embedding (Su et al. 2021, arXiv 2104.09864) to paired halves, as Qwen2."""
    first, second = x_BNPD.chunk(2, dim=-1)
    return x_BNPD * cos_B1PD + torch.cat([-second, first], dim=-1) * sin_B1PD
