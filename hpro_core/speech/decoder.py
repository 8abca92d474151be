"""Speech tokens to audio with the decoder of the embedded tokenizer and a vocoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpro_core.errors import HproError
from hpro_core.speech.features import MelFrontend
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.tokenizer import SpeechTokenizer, codes_of
from hpro_core.speech.vocoder import Vocoder, load_vocoder, white_noise


class TokenDecoder:
    """Decodes speech tokens to audio; the output depends on tokens and speaker embedding only.

    Utterances are decoded one by one. Griffin-Lim amplifies the rounding differences between a
    batch and a single row to audible ones.
    """

    def __init__(self, tokenizer: SpeechTokenizer, vocoder: Vocoder | None = None):
        """
        Args:
            tokenizer: trained tokenizer on the CPU; it is set to eval mode.
            vocoder: trained vocoder on the CPU, set to eval mode; None: Griffin-Lim.
        """
        self.tokenizer = tokenizer.eval()
        self.vocoder = None if vocoder is None else vocoder.eval()
        self.frontend = MelFrontend()

    @classmethod
    def load(cls, folder: Path) -> "TokenDecoder":
        """Load the decoder from a tokenizer folder, `results/<run>/speech/tokenizer`.

        The vocoder is that of the folder `vocoder` beside it, see `load_vocoder`.

        Raises:
            HproError: a file is missing or does not fit.
        """
        return cls(load_tokenizer(folder), load_vocoder(folder.parent / "vocoder"))

    def decode(
        self, tokens: Sequence[np.ndarray], embeddings: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Decode token sequences to audio.

        Args:
            tokens: one integer array (L,) per utterance, each id in 0..6560, L at least 1.
            embeddings: speaker embedding (E,) of each utterance's reference.

        Returns:
            float32 (640 L,) per utterance in [-1, 1], 16 kHz.

        Raises:
            HproError: an utterance has no tokens or one outside 0..6560, an embedding has the wrong
                size or is not finite, or the numbers of sequences and embeddings differ.
        """
        self._check(tokens, embeddings)
        pairs = zip(tokens, embeddings, strict=True)
        return [self.audio(self.mel(*pair)).numpy() for pair in pairs]

    @torch.no_grad()
    def audio(self, mel_FM: Tensor) -> Tensor:
        """Synthesise audio, float32 (160 F,) in [-1, 1], from log-mel frames, float32 (F, 80)."""
        if self.vocoder is None:
            return self.frontend.synthesise(mel_FM)
        return self.vocoder(mel_FM[None], white_noise(len(mel_FM), seed=0))[0].clamp(-1.0, 1.0)

    @torch.no_grad()
    def mel(self, tokens_L: np.ndarray, embedding_E: np.ndarray) -> Tensor:
        """Decode one token sequence to log-mel frames, float32 (4 L, 80)."""
        tokens_1L = torch.as_tensor(np.asarray(tokens_L, dtype=np.int64))[None]
        lengths_1 = torch.tensor([tokens_1L.shape[1]])
        speaker_1E = torch.tensor(embedding_E, dtype=torch.float32)[None]
        return self.tokenizer.mel(codes_of(tokens_1L), lengths_1, speaker_1E)[0]

    def _check(self, tokens: Sequence[np.ndarray], embeddings: Sequence[np.ndarray]) -> None:
        if len(tokens) != len(embeddings):
            raise HproError(f"{len(tokens)} token sequences, but {len(embeddings)} embeddings")
        size = self.tokenizer.config.speaker_dim
        for i, (row, embedding) in enumerate(zip(tokens, embeddings, strict=True)):
            if not len(row):
                raise HproError(f"utterance {i} of the batch has no speech tokens to decode")
            if np.shape(embedding) != (size,) or not np.isfinite(embedding).all():
                raise HproError(
                    f"utterance {i} of the batch: the speaker embedding has shape "
                    f"{np.shape(embedding)}, but {size} finite numbers are expected: use the "
                    "embeddings of this tokenizer"
                )
