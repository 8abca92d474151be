"""Speech tokens back to sound: the decoder of the tokenizer, then Griffin-Lim."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hpro_core.errors import HproError
from hpro_core.speech.features import FRAMES_PER_TOKEN, MelFrontend
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.tokenizer import SpeechTokenizer, codes_of

_BATCH = 16


class TokenDecoder:
    """Tokens in, sound out. Deterministic: the sound of an utterance depends on nothing but its
    tokens and the embedding."""

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
        audio: list[np.ndarray] = [np.empty(0)] * len(tokens)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), _BATCH):
            chunk = order[start : start + _BATCH]
            mels = self.mels([tokens[i] for i in chunk], [embeddings[i] for i in chunk])
            for i, mel in zip(chunk, mels, strict=True):
                audio[i] = self.frontend.synthesise(torch.from_numpy(mel)).numpy()
        return audio

    @torch.no_grad()
    def mels(
        self, tokens: Sequence[np.ndarray], embeddings: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Log-mel frames of token sequences, float32 (4 L, 80) each."""
        lengths_B = torch.tensor([len(row) for row in tokens], device=self.device)
        rows = [torch.as_tensor(np.asarray(row), dtype=torch.int64) for row in tokens]
        tokens_BL = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        speaker_BE = torch.as_tensor(np.stack(list(embeddings)), dtype=torch.float32)
        mel_BFM = self.tokenizer.mel(codes_of(tokens_BL), lengths_B, speaker_BE.to(self.device))
        return [
            mel[: FRAMES_PER_TOKEN * len(row)].cpu().numpy()
            for mel, row in zip(mel_BFM, tokens, strict=True)
        ]

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
