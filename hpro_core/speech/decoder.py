"""Speech tokens back to sound: the decoder of the tokenizer, then Griffin-Lim."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpro_core.errors import HproError
from hpro_core.speech.features import MelFrontend
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.tokenizer import SpeechTokenizer, codes_of


class TokenDecoder:
    """Tokens in, sound out: a function of an utterance's tokens and the embedding alone.

    Utterances go one by one, because Griffin-Lim makes audible differences out of the rounding
    differences between a batch and a single row, and because it takes most of the time anyway.
    """

    def __init__(self, tokenizer: SpeechTokenizer, device: torch.device | str = "cpu"):
        """`tokenizer` is moved to the device and put into eval mode."""
        self.tokenizer = tokenizer.to(device).eval()
        self.frontend = MelFrontend()
        self.device = torch.device(device)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "TokenDecoder":
        """The decoder of a trained tokenizer, `results/<run>/speech/tokenizer`.

        Raises:
            HproError: a file is missing or does not fit.
        """
        return cls(load_tokenizer(folder), device)

    def decode(
        self, tokens: Sequence[np.ndarray], embeddings: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Sound of token sequences.

        Args:
            tokens: one integer array (L,) per utterance, each id in 0..6560, L at least 1.
            embeddings: the speaker embedding of the reference of each utterance, (E,).

        Returns:
            float32 (640 L,) per utterance in [-1, 1], 16 kHz.

        Raises:
            HproError: an utterance has no tokens or one outside 0..6560, an embedding has another
                size or is not finite, or the numbers of sequences and embeddings differ.
        """
        self._check(tokens, embeddings)
        pairs = zip(tokens, embeddings, strict=True)
        return [self.frontend.synthesise(self.mel(*pair)).numpy() for pair in pairs]

    @torch.no_grad()
    def mel(self, tokens_L: np.ndarray, embedding_E: np.ndarray) -> Tensor:
        """Log-mel frames of one token sequence, float32 (4 L, 80) on the CPU."""
        tokens_1L = torch.as_tensor(np.asarray(tokens_L, dtype=np.int64), device=self.device)[None]
        lengths_1 = torch.tensor([tokens_1L.shape[1]], device=self.device)
        speaker_1E = torch.tensor(embedding_E, dtype=torch.float32, device=self.device)[None]
        return self.tokenizer.mel(codes_of(tokens_1L), lengths_1, speaker_1E)[0].cpu()

    def _check(self, tokens: Sequence[np.ndarray], embeddings: Sequence[np.ndarray]) -> None:
        if len(tokens) != len(embeddings):
            raise HproError(f"{len(tokens)} token sequences, but {len(embeddings)} embeddings")
        size = self.tokenizer.config.speaker_dim
        for i, (row, embedding) in enumerate(zip(tokens, embeddings, strict=True)):
            if not len(row):
                raise HproError(f"utterance {i} of the batch has no speech tokens to decode")
            if np.shape(embedding) != (size,) or not np.isfinite(embedding).all():
                raise HproError(
                    f"utterance {i} of the batch: speaker embedding of shape {np.shape(embedding)}"
                    f", but {size} finite numbers are expected: was it made by another tokenizer?"
                )
