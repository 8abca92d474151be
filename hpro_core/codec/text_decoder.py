"""Text decoder of the codec: Whisper's decoder with the content features as memory.

Weights, their names and results equal those of `transformers`' WhisperDecoder (Radford et al. 2022,
arXiv 2212.04356; tests compare the two), so published decoders can be loaded. It is implemented
here because that class passes on neither a memory mask, which L_ASR needs, nor trainable attention
of one head, and because importing transformers takes seconds in every job.

Letters: B batch, J text position, L frame, T attended position, H width, N head, D width of a head,
V text token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.errors import HproError

INIT_STD = 0.02
"""Standard deviation of initial weights (default of transformers)."""


@dataclass(frozen=True)
class TextDecoderSizes:
    """Sizes of Whisper's decoder.

    Attributes:
        vocabulary: number of text tokens.
        width: width of the hidden states.
        blocks: number of blocks.
        heads: attention heads.
        hidden: width of the feed-forward layer.
        positions: maximum number of text positions.
        padding: padding token, whose embedding gets no gradient as input.
    """

    vocabulary: int
    width: int
    blocks: int
    heads: int
    hidden: int
    positions: int
    padding: int | None = None


class Attention(nn.Module):
    """Multi-head attention to the preceding text or to the memory."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_BJH: Tensor, attended_BTH: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend to keys and values.

        Args:
            x_BJH: input of the queries.
            attended_BTH: input of keys and values.
            allowed: bool, broadcast to (B, N, J, T), true where attention is allowed; None: all.

        Returns:
            (B, J, H).
        """
        queries, keys, values = (
            self._split(part)
            for part in (self.q_proj(x_BJH), self.k_proj(attended_BTH), self.v_proj(attended_BTH))
        )
        mixed_BNJD = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=allowed
        )
        return self.out_proj(mixed_BNJD.transpose(1, 2).flatten(2))

    def weights_of_first_head(
        self, x_BJH: Tensor, attended_BTH: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """Attention weights of the first head, float32 (B, J, T); each row sums to one.

        Arguments as in `forward`.
        """
        queries, keys = self._split(self.q_proj(x_BJH)), self._split(self.k_proj(attended_BTH))
        scores_BJT = queries[:, 0] @ keys[:, 0].transpose(1, 2) / queries.shape[-1] ** 0.5
        if allowed is not None:
            scores_BJT = scores_BJT.masked_fill(~allowed[:, 0], -torch.inf)
        return scores_BJT.float().softmax(-1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm self-attention, attention to the memory and feed-forward layer, with residuals."""

    def __init__(self, sizes: TextDecoderSizes):
        super().__init__()
        self.self_attn = Attention(sizes.width, sizes.heads)
        self.self_attn_layer_norm = nn.LayerNorm(sizes.width)
        self.encoder_attn = Attention(sizes.width, sizes.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(sizes.width)
        self.fc1 = nn.Linear(sizes.width, sizes.hidden)
        self.fc2 = nn.Linear(sizes.hidden, sizes.width)
        self.final_layer_norm = nn.LayerNorm(sizes.width)

    def forward(
        self,
        x_BJH: Tensor,
        causal_JJ: Tensor,
        memory_BLH: Tensor,
        frames_B11L: Tensor | None,
        guided: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Apply the block.

        Args:
            x_BJH: hidden states of the text.
            causal_JJ: bool, true at the same and earlier positions.
            memory_BLH: memory.
            frames_B11L: bool, true at the frames that may be attended; None: all.
            guided: also return attention weights.

        Returns:
            Hidden states (B, J, H), and if `guided` the first head's attention to the frames
            (B, J, L), otherwise None.
        """
        normed = self.self_attn_layer_norm(x_BJH)
        x_BJH = x_BJH + self.self_attn(normed, normed, causal_JJ)
        normed = self.encoder_attn_layer_norm(x_BJH)
        attention_BJL = None
        if guided:
            attention_BJL = self.encoder_attn.weights_of_first_head(normed, memory_BLH, frames_B11L)
        x_BJH = x_BJH + self.encoder_attn(normed, memory_BLH, frames_B11L)
        inner = functional.gelu(self.fc1(self.final_layer_norm(x_BJH)))
        return x_BJH + self.fc2(inner), attention_BJL


class WhisperDecoder(nn.Module):
    """Whisper's decoder: hidden states from text and memory."""

    def __init__(self, sizes: TextDecoderSizes):
        super().__init__()
        self.sizes = sizes
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width, sizes.padding)
        self.embed_positions = nn.Embedding(sizes.positions, sizes.width)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.blocks))
        self.layer_norm = nn.LayerNorm(sizes.width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if sizes.padding is not None:
            nn.init.zeros_(self.embed_tokens.weight[sizes.padding])

    def forward(
        self, text_BJ: Tensor, memory_BLH: Tensor, mask_BL: Tensor | None, guided: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the hidden states.

        Args:
            text_BJ: text tokens, int64.
            memory_BLH: memory.
            mask_BL: bool, true at the frames that may be attended; None: all.
            guided: also return attention weights.

        Returns:
            Hidden states (B, J, H), and if `guided` the attention of the last block's first head to
            the frames (B, J, L), otherwise None.
        """
        size = text_BJ.shape[1]
        hidden = self.embed_tokens(text_BJ) + self.embed_positions.weight[:size]
        causal_JJ = torch.ones(size, size, dtype=torch.bool, device=text_BJ.device).tril()
        frames = None if mask_BL is None else mask_BL[:, None, None, :]
        attention_BJL = None
        last = len(self.layers) - 1
        for index, block in enumerate(self.layers):
            hidden, attention_BJL = block(
                hidden, causal_JJ, memory_BLH, frames, guided and index == last
            )
        return self.layer_norm(hidden), attention_BJL


class TextDecoder(nn.Module):
    """Whisper's decoder with the content features as memory."""

    def __init__(self, features: int, sizes: TextDecoderSizes, memory_positions: bool):
        """
        Args:
            features: width of the content features.
            sizes: sizes of the decoder.
            memory_positions: add sinusoids to the projected features (ours).
        """
        super().__init__()
        self.affine = nn.Linear(features, sizes.width)
        self.decoder = WhisperDecoder(sizes)
        self.memory_positions = memory_positions

    def forward(
        self,
        features_BLH: Tensor,
        mask_BL: Tensor | None,
        text_BJ: Tensor,
        guided: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Predict the next text token at each position.

        Args:
            features_BLH: content features.
            mask_BL: bool, true at the frames that may be attended; None allows all.
            text_BJ: text tokens, int64, the begin symbol first.
            guided: also return attention weights.

        Returns:
            Logits (B, J, V), and if `guided` the attention of the last block's first head to the
            frames (B, J, L), otherwise None. Gradients reach `features_BLH`.

        Raises:
            HproError: the text has more tokens than the decoder has positions.
        """
        size, positions = text_BJ.shape[1], self.decoder.sizes.positions
        if size > positions:
            raise HproError(
                f"a transcript has {size} tokens, the codec's text decoder has {positions} "
                "positions: remove longer utterances from the corpus"
            )
        memory = self.affine(features_BLH)
        if self.memory_positions:
            memory = memory + _sinusoids(memory.shape[1], memory.shape[2], memory.device)
        hidden, attention = self.decoder(text_BJ, memory, mask_BL, guided)
        return functional.linear(hidden, self.decoder.embed_tokens.weight), attention


def _sinusoids(frames: int, width: int, device: torch.device) -> Tensor:
    """Sinusoidal position encodings of frames, float32 (frames, width)."""
    position = torch.arange(frames, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-9.21034 / width))
    return torch.cat([torch.sin(position * rate), torch.cos(position * rate)], dim=1)
