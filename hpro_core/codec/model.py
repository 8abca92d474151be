"""HD-Emo: speech tokens to content and style codes, emotion, word affect and text, and back.

Paper section II-A and figure 2; where the released code differs, its form is the default (see
docs/method.md). Letters: B batch, L frame (25 Hz), H width, V speech token, W word, J text
position, D code dimension.

    tokens - embedding -+- content extractor -+- content adapter - text decoder    (L_ASR)
                        |                     +- modulation adapter - FSQ = T_c -+
                        |                                                        +- combiner (L_rec)
                        +- style extractor ---+- FSQ = T_s ----------------------+
                                              +- emotion adapter -+- emotion head      (L_SER)
                                                                  +- word VAD head     (L_wVAD)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hpro_core.codec.compatibility import CORRECTED, Compatibility
from hpro_core.codec.encoder import Encoder
from hpro_core.codec.losses import pool_words
from hpro_core.codec.text_decoder import TextDecoder, TextDecoderSizes
from hpro_core.constants import EMOTIONS, N_SPEECH_TOKENS, VAD
from hpro_core.speech import fsq
from hpro_core.speech.token_table import TokenMix, TokenTable
from hpro_core.text.phones import N_TRANSCRIPT_SYMBOLS
from hpro_core.train.batching import length_mask
from hpro_core.train.precision import at_least_float32


@dataclass(frozen=True)
class CodecConfig:
    """Sizes and form of the codec.

    In the comments, "released" is the authors' published configuration.
    """

    width: int = 512
    extractor_blocks: int = 5
    adapter_blocks: int = 3
    heads: int = 8
    hidden: int = 1024
    combiner_blocks: int = 8
    combiner_heads: int = 16
    combiner_hidden: int = 2048
    emotion_heads: int = 16
    dropout: float = 0.1
    positional_dropout: float = 0.1  # released: on an encoder's scaled input and its sinusoids
    content_dimensions: int = 4
    content_levels: int = 6  # 6^4 = 1296 content tokens (paper and released)
    style_dimensions: int = 3
    style_levels: int = 5  # 5^3 = 125 style tokens (released); paper: 64 = 4^3
    text_vocabulary: int = 51865
    text_width: int = 768  # Whisper small (released); paper: medium
    text_blocks: int = 12
    text_heads: int = 12
    text_hidden: int = 3072
    text_positions: int = 448
    text_padding: int | None = None  # padding token, whose embedding gets no gradient as input
    word_edges: Literal["nearest", "truncate"] = "nearest"  # see `spans_to_frames`
    modulation: Literal["released", "paper"] = "released"  # see `HdEmo.reconstruct`
    factored_embedding: bool = False  # ours, for small corpora: see speech/token_table.py
    memory_positions: bool = False  # ours: sinusoids on the text decoder's content features

    @property
    def text_sizes(self) -> TextDecoderSizes:
        """Sizes of the text decoder."""
        return TextDecoderSizes(
            vocabulary=self.text_vocabulary,
            width=self.text_width,
            blocks=self.text_blocks,
            heads=self.text_heads,
            hidden=self.text_hidden,
            positions=self.text_positions,
            padding=self.text_padding,
        )


PRESETS: dict[str, dict[str, Any]] = {
    "released": {},
    "paper": {
        "style_levels": 4,
        "text_width": 1024,
        "text_blocks": 24,
        "text_heads": 16,
        "text_hidden": 4096,
        "modulation": "paper",
    },
}
# Ours: two CPU cores train it in minutes. The text decoder has Whisper's architecture, is small,
# starts from random weights and predicts the phone symbols of text.phones.
PRESETS["embedded"] = {
    "width": 128,
    "extractor_blocks": 2,
    "adapter_blocks": 1,
    "heads": 4,
    "hidden": 256,
    "combiner_blocks": 2,
    "combiner_heads": 4,
    "combiner_hidden": 256,
    "emotion_heads": 4,
    "positional_dropout": 0.0,
    "text_vocabulary": N_TRANSCRIPT_SYMBOLS,
    "text_width": 128,
    "text_blocks": 2,
    "text_heads": 4,
    "text_hidden": 256,
    "text_positions": 384,
    "text_padding": 0,
    "factored_embedding": True,
    "memory_positions": True,
}
# Ours: for tests of code and workflow; its metrics have no meaning.
PRESETS["miniature"] = PRESETS["embedded"] | {
    "width": 32,
    "extractor_blocks": 1,
    "hidden": 64,
    "combiner_blocks": 1,
    "combiner_hidden": 64,
    "text_width": 32,
    "text_blocks": 1,
    "text_hidden": 64,
}


class EmotionHead(nn.Module):
    """Utterance-level emotion classifier with attention pooling.

    One learned query per class attends to the frames; the class's logit is the mean output of a
    small MLP.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(EMOTIONS), width))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.SiLU(),
            nn.Linear(width // 2, width // 4),
            nn.SiLU(),
        )

    def forward(self, features_BLH: Tensor, mask_BL: Tensor) -> Tensor:
        """Classify an utterance.

        Args:
            features_BLH: emotion features.
            mask_BL: bool, true at real frames; at least one in each row.

        Returns:
            Logits (B, 9) in the order of EMOTIONS.
        """
        queries = self.queries.expand(len(features_BLH), -1, -1)
        seen, _ = self.attention(
            queries, features_BLH, features_BLH, key_padding_mask=~mask_BL, need_weights=False
        )
        return self.mlp(seen).mean(-1)


class WordVadHead(nn.Module):
    """Valence, arousal and dominance of each word, from the frames that it covers."""

    def __init__(self, width: int):
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(0.1))
        self.word = nn.Sequential(
            nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, len(VAD)), nn.Sigmoid()
        )

    def forward(self, features_BLH: Tensor, spans_BW2: Tensor) -> Tensor:
        """Predict the values of each word.

        Args:
            features_BLH: emotion features.
            spans_BW2: first and one-past-last frame of each word, int64; padding is (0, 0).

        Returns:
            (B, W, 3) in [0, 1], in the order V, A, D; values at padding words are undefined.
        """
        return self.word(pool_words(self.frame(features_BLH), spans_BW2))


@dataclass(frozen=True)
class CodecOutput:
    """Codes and predictions of the codec for a sequence of speech tokens.

    Attributes:
        content_BLD: content codes in [0, 1] before rounding, D = 4.
        style_BLD: style codes in [0, 1] before rounding, D = 3.
        emotion_B9: logits of the emotion head.
        vad_BW3: valence, arousal, dominance of each word in [0, 1].
        text_BJV: logits of the next text token; V is the text vocabulary.
    """

    content_BLD: Tensor
    style_BLD: Tensor
    emotion_B9: Tensor
    vad_BW3: Tensor
    text_BJV: Tensor


class HdEmo(nn.Module):
    """The HD-Emo codec (paper section II-A)."""

    def __init__(self, config: CodecConfig, compatibility: Compatibility = CORRECTED):
        """
        Args:
            config: sizes and form.
            compatibility: corrections of the released codec; `RELEASED` reproduces its values.
        """
        super().__init__()
        self.config = config
        self.compatibility = compatibility
        width = config.width

        def encoder(blocks: int) -> Encoder:
            return Encoder(
                width,
                blocks,
                config.heads,
                config.hidden,
                config.dropout,
                positional_dropout=config.positional_dropout,
            )

        self.embedding = TokenTable(width, factored=config.factored_embedding, std=1.0)
        self.content_extractor = encoder(config.extractor_blocks)
        self.content_adapter = encoder(config.adapter_blocks)
        self.text_decoder = TextDecoder(width, config.text_sizes, config.memory_positions)
        self.style_extractor = encoder(config.extractor_blocks)
        self.emotion_adapter = encoder(config.adapter_blocks)
        self.emotion_head = EmotionHead(width, config.emotion_heads)
        self.word_vad_head = WordVadHead(width)
        self.modulation_adapter = encoder(config.adapter_blocks)
        self.to_content_code = nn.Linear(width, config.content_dimensions)
        self.to_style_code = nn.Linear(width, config.style_dimensions)
        self.from_content_code = nn.Linear(config.content_dimensions, width)
        self.from_style_code = nn.Linear(config.style_dimensions, width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.combiner = Encoder(
            width,
            config.combiner_blocks,
            config.combiner_heads,
            config.combiner_hidden,
            config.dropout,
            activation="relu",
            input_relu=True,
            positional_dropout=config.positional_dropout,
        )
        self.to_tokens = nn.Linear(width, N_SPEECH_TOKENS)
        self._frozen: list[nn.Module] = []

    def freeze(self, parts: list[nn.Module]) -> None:
        """Freeze these parts: no gradients, and eval mode even after `train`."""
        self._frozen = parts
        for part in parts:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "HdEmo":
        """Set the mode; frozen parts stay in eval mode (see `Compatibility.frozen_in_eval`)."""
        super().train(mode)
        if self.compatibility.frozen_in_eval:
            for part in self._frozen:
                part.eval()
        return self

    def content_parts(self) -> list[nn.Module]:
        """Modules that stage A trains."""
        return [self.embedding, self.content_extractor, self.content_adapter, self.text_decoder]

    def frozen_parts(self) -> list[nn.Module]:
        """Content modules that stage B freezes (see `Compatibility.embedding_frozen`)."""
        parts = self.content_parts()
        return parts if self.compatibility.embedding_frozen else parts[1:]

    def content_features(self, tokens: Tensor | TokenMix, lengths_B: Tensor) -> Tensor:
        """Output of the content extractor.

        Args:
            tokens: token ids, int64 (B, L), or distributions, float (B, L, V) or `TokenMix`.
            lengths_B: number of real frames, int64.

        Returns:
            (B, L, H); zero in the padding.
        """
        return _zero_padding(self.content_extractor(self.embedding(tokens), lengths_B), lengths_B)

    def text_logits(
        self, content_BLH: Tensor, lengths_B: Tensor, text_BJ: Tensor, guided: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Predict the next text token at each text position from the content features.

        Args:
            content_BLH: output of the content extractor.
            lengths_B: number of real frames, int64.
            text_BJ: text tokens, int64, the begin symbol first.
            guided: also return the attention for the guided-attention loss.

        Returns:
            Logits (B, J, vocabulary) and attention (B, J, L) or None, see `TextDecoder.forward`.
        """
        adapted = _zero_padding(self.content_adapter(content_BLH, lengths_B), lengths_B)
        mask_BL = length_mask(lengths_B, content_BLH.shape[1])
        frames = mask_BL if self.compatibility.frame_padding_hidden else None
        return self.text_decoder(adapted, frames, text_BJ, guided)

    def content_code(self, content_BLH: Tensor, lengths_B: Tensor) -> Tensor:
        """Content code before rounding.

        Codec training passes detached features, so that reconstruction does not train the content
        extractor. In a reward they stay attached (see `Compatibility.content_attached`).

        Args:
            content_BLH: output of the content extractor.
            lengths_B: number of real frames, int64.

        Returns:
            At least float32, (B, L, 4) in [0, 1].
        """
        code = self.to_content_code(self.modulation_adapter(content_BLH, lengths_B))
        return torch.sigmoid(at_least_float32(code))

    def style_features(self, tokens: Tensor | TokenMix, lengths_B: Tensor) -> Tensor:
        """Output of the style extractor.

        Args:
            tokens: see `content_features`.
            lengths_B: number of real frames, int64.

        Returns:
            (B, L, H); zero in the padding.
        """
        return _zero_padding(self.style_extractor(self.embedding(tokens), lengths_B), lengths_B)

    def style_code(self, style_BLH: Tensor) -> Tensor:
        """Style code before rounding, at least float32, (B, L, 3) in [0, 1]."""
        return torch.sigmoid(at_least_float32(self.to_style_code(style_BLH)))

    def emotion_features(
        self,
        style_BLH: Tensor,
        lengths_B: Tensor,
        perturb: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Input of the emotion and word VAD heads: continuous features, not the rounded codes.

        Args:
            style_BLH: output of the style extractor.
            lengths_B: number of real frames, int64.
            perturb: function that adds noise to the features, in training only.

        Returns:
            (B, L, H); zero in the padding.
        """
        features = self.emotion_adapter(style_BLH, lengths_B)
        if perturb is not None:
            features = perturb(features)
        return _zero_padding(features, lengths_B)

    def reconstruct(self, content_BLD: Tensor, style_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """Reconstruct speech-token logits from content and style codes, which are rounded first.

        Style modulates content at each frame: X (1 + gamma) + beta if `config.modulation` is
        "released"; X gamma + beta if it is "paper", where gamma = 0 removes the content.

        Args:
            content_BLD: content codes in [0, 1].
            style_BLD: style codes in [0, 1].
            lengths_B: number of real frames, int64.

        Returns:
            Logits (B, L, V). Gradients reach the codes straight through the rounding.
        """
        content = self.from_content_code(fsq.quantise(content_BLD, self.config.content_levels))
        style = self.from_style_code(fsq.quantise(style_BLD, self.config.style_levels))
        gamma, beta = self.modulation(style).chunk(2, dim=-1)
        scale = 1 + gamma if self.config.modulation == "released" else gamma
        modulated = content * scale + beta
        begin = torch.zeros_like(modulated[:, :1])  # released code: unused speaker position
        combined = self.combiner(torch.cat([begin, modulated], dim=1), lengths_B + 1)
        return self.to_tokens(combined[:, 1:])

    def forward(
        self, tokens: Tensor | TokenMix, lengths_B: Tensor, spans_BW2: Tensor, text_BJ: Tensor
    ) -> CodecOutput:
        """Compute codes and predictions for speech tokens, as a reward does.

        Gradients reach distributions over tokens.

        Args:
            tokens: token ids, int64 (B, L), or distributions, float (B, L, V) or `TokenMix`.
            lengths_B: number of real frames, int64.
            spans_BW2: first and one-past-last frame of each word, int64; padding is (0, 0).
            text_BJ: text tokens, int64, the begin symbol first.

        Returns:
            Codes before rounding and predictions of all heads.

        Raises:
            HproError: the text has more tokens than the text decoder has positions.
        """
        content = self.content_features(tokens, lengths_B)
        text, _ = self.text_logits(content, lengths_B, text_BJ)
        style = self.style_features(tokens, lengths_B)
        emotion = self.emotion_features(style, lengths_B)
        coded = content if self.compatibility.content_attached else content.detach()
        return CodecOutput(
            content_BLD=self.content_code(coded, lengths_B),
            style_BLD=self.style_code(style),
            emotion_B9=self.emotion_head(emotion, length_mask(lengths_B, emotion.shape[1])),
            vad_BW3=self.word_vad_head(emotion, spans_BW2),
            text_BJV=text,
        )

    @torch.no_grad()
    def preference_codes(self, tokens_BL: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The discrete content and style preference codes T_c and T_s of recordings (paper II-B).

        Args:
            tokens_BL: speech tokens of the recordings, int64.
            lengths_B: number of real frames, int64.

        Returns:
            float32 (B, L, 4) and (B, L, 3), on the grid of the levels, without gradient.
        """
        content = self.content_code(self.content_features(tokens_BL, lengths_B), lengths_B)
        style = self.style_code(self.style_features(tokens_BL, lengths_B))
        return (
            fsq.quantise(content, self.config.content_levels),
            fsq.quantise(style, self.config.style_levels),
        )


def _zero_padding(features_BLH: Tensor, lengths_B: Tensor) -> Tensor:
    mask_BL = length_mask(lengths_B, features_BLH.shape[1])
    return features_BLH.masked_fill(~mask_BL[..., None], 0.0)
