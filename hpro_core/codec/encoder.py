"""Encoder of every HD-Emo module: causal self-attention with relative positions.

The Conformer encoder of CosyVoice without convolution and macaron layers (released configuration);
relative attention as in Transformer-XL.

Letters: B batch, T frame, D width, H head, K width of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.train.batching import length_mask
from hpro_core.train.precision import at_least_float32


class RelativeAttention(nn.Module):
    """Multi-head self-attention with content and distance scores (Transformer-XL, section 3.3)."""

    def __init__(self, width: int, heads: int):
        """
        Args:
            width: D.
            heads: number of heads; divides `width`.
        """
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x_BTD: Tensor, distance_TD: Tensor, allowed_BTT: Tensor) -> Tensor:
        """Attend to the same and earlier frames.

        Args:
            x_BTD: frame features.
            distance_TD: sinusoids of the distances T-1 down to 0; later frames are not attended.
            allowed_BTT: bool, true where a frame (row) may attend to another (column), the same or
                an earlier one. Each frame needs at least one.

        Returns:
            (B, T, D).
        """
        q_BTHK = self._split(self.linear_q(x_BTD))
        k_BHTK = self._split(self.linear_k(x_BTD)).transpose(1, 2)
        v_BHTK = self._split(self.linear_v(x_BTD)).transpose(1, 2)
        p_HTK = self._split(self.linear_pos(distance_TD)).transpose(0, 1)
        content = (q_BTHK + self.pos_bias_u).transpose(1, 2) @ k_BHTK.transpose(-2, -1)
        distance = _shift((q_BTHK + self.pos_bias_v).transpose(1, 2) @ p_HTK.transpose(-2, -1))
        scores = at_least_float32(content + distance) / math.sqrt(k_BHTK.shape[-1])
        weights = scores.masked_fill(~allowed_BTT[:, None], -torch.inf).softmax(-1)
        mixed = (weights.to(v_BHTK.dtype) @ v_BHTK).transpose(1, 2).flatten(2)
        return self.linear_out(mixed)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward layer with residual connections."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, activation: str):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=1e-12)
        self.attention = RelativeAttention(width, heads)
        self.norm_feed_forward = nn.LayerNorm(width, eps=1e-12)
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.activation = {"silu": functional.silu, "relu": functional.relu}[activation]

    def forward(self, x_BTD: Tensor, distance_TD: Tensor, allowed_BTT: Tensor) -> Tensor:
        """Map features (B, T, D) to (B, T, D); arguments as in `RelativeAttention.forward`."""
        attended = self.attention(self.norm_attention(x_BTD), distance_TD, allowed_BTT)
        x_BTD = x_BTD + self.dropout(attended)
        hidden = self.dropout(self.activation(self.w_1(self.norm_feed_forward(x_BTD))))
        return x_BTD + self.dropout(self.w_2(hidden))


class Encoder(nn.Module):
    """Stack of blocks in which frame t attends to frames up to t and to no padding."""

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        hidden: int,
        dropout: float,
        activation: str = "silu",
        input_relu: bool = False,
        positional_dropout: float = 0.0,
    ):
        """
        Args:
            width: D of input and output.
            blocks: number of blocks.
            heads: number of attention heads.
            hidden: width of the feed-forward layer.
            dropout: dropout rate after attention, feed-forward and the input layer.
            activation: "silu" (extractors, adapters) or "relu" (combiner).
            input_relu: apply a ReLU after the input layer (combiner).
            positional_dropout: dropout rate on the scaled input and on the sinusoids.
        """
        super().__init__()
        self.input = nn.Sequential(
            nn.Linear(width, width),
            nn.LayerNorm(width, eps=1e-5),
            nn.Dropout(dropout),
            nn.ReLU() if input_relu else nn.Identity(),
        )
        self.positional_dropout = nn.Dropout(positional_dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, dropout, activation) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """Encode frames.

        Args:
            x_BTD: frame features; values in the padding have no effect.
            lengths_B: number of real frames, int64, at least one.

        Returns:
            (B, T, D); values in the padding are undefined.
        """
        frames = x_BTD.shape[1]
        x_BTD = self.positional_dropout(self.input(x_BTD) * math.sqrt(x_BTD.shape[-1]))
        distance_TD = self.positional_dropout(_distances(frames, x_BTD.shape[-1], x_BTD.device))
        causal_TT = torch.ones(frames, frames, dtype=torch.bool, device=x_BTD.device).tril()
        allowed_BTT = causal_TT & length_mask(lengths_B, frames)[:, None, :]
        for block in self.blocks:
            x_BTD = block(x_BTD, distance_TD, allowed_BTT)
        return self.norm(x_BTD)


def _distances(frames: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the distances frames-1 down to 0: sine in even, cosine in odd columns."""
    distance = torch.arange(frames - 1, -1, -1.0, device=device)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(distance * rate), torch.cos(distance * rate)], -1).flatten(1)


def _shift(scores_BHTT: Tensor) -> Tensor:
    """Reorder scores by distance to scores by position; those above the diagonal are undefined."""
    batch, heads, frames, _ = scores_BHTT.shape
    return functional.pad(scores_BHTT, (1, 0)).view(batch, heads, frames + 1, frames)[:, :, 1:]
