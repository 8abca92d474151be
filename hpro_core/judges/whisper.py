"""Published ASR judge: Whisper large-v3 (paper), run with the package openai-whisper.

Letters: B clips of a batch, T samples, C mel channels, F mel frames of 10 ms, L tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from whisper.decoding import DecodingOptions
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder, Whisper
from whisper.tokenizer import get_tokenizer

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, read_pt
from hpro_core.judges.asr import max_tokens, padded_mel
from hpro_core.judges.realignment import read_wav
from hpro_core.label.teachers import AlignedUtterance
from hpro_core.train.checkpoint import build_on_meta, check_fit, check_magnitudes, sizes_of

ORIGIN = "the package openai-whisper, which fetches large-v3.pt"
WINDOW_S = 30
"""Window length of the model; it accepts no other."""
_DIMS, _WEIGHTS = "dims", "model_state_dict"
_N_MELS, _N_AUDIO_CTX = (80, 128), 50 * WINDOW_S


class WhisperTranscripts:
    """Transcribe clips in batches, in English.

    Decoding is greedy at temperature 0, the default of the package's Python functions, without
    their fallback to higher temperatures. Beam search in the package supports only one clip at a
    time (openai/whisper#2197).
    """

    def __init__(self, path: Path, batch_size: int, device: torch.device):
        """
        Args:
            path: a .pt file as published by OpenAI.
            batch_size: number of clips per batch.
            device: device of the model, which runs in float32.

        Raises:
            HproError: the file is missing, broken or of another format, or weights do not fit.
        """
        self.batch_size = batch_size
        self._device = device
        self._model = _model(path).to(device).eval()
        self.identity: dict[str, object] = {"judge": "openai-whisper", "files": fingerprint(path)}
        self._tokenizer = get_tokenizer(
            self._model.is_multilingual,
            num_languages=self._model.num_languages,
            language="en",
            task="transcribe",
        )

    def predict(self, clips: Sequence[AlignedUtterance]) -> list[str]:
        """Transcribe each clip, without text normalisation.

        A transcript does not depend on the other clips of the batch. Every clip is padded or cut to
        30 s and has its own token limit (`asr.max_tokens`).

        Raises:
            HproError: audio is unreadable, empty, or not 16 kHz mono.
        """
        starts = range(0, len(clips), self.batch_size)
        batches = (clips[start : start + self.batch_size] for start in starts)
        return [text for batch in batches for text in self._batch(batch)]

    @torch.inference_mode()
    def _batch(self, clips: Sequence[AlignedUtterance]) -> list[str]:
        audios = [read_wav(clip.audio)[: WINDOW_S * SAMPLE_RATE_HZ] for clip in clips]
        most_B = [max_tokens(audio_T) for audio_T in audios]
        options = DecodingOptions(
            language="en", without_timestamps=True, sample_len=max(most_B), fp16=False
        )
        results = self._model.decode(self._mel(audios), options)
        # Greedy decoding: a lower limit only truncates the tokens.
        tokens = [result.tokens[:most] for result, most in zip(results, most_B, strict=True)]
        return [self._tokenizer.decode(tokens_L).strip() for tokens_L in tokens]

    def _mel(self, audios: Sequence[np.ndarray]) -> torch.Tensor:
        """Log-mel spectrograms, float32 (B, C, F), each computed separately."""
        n_mels = self._model.dims.n_mels
        mels_BCF = np.concatenate([padded_mel(audio_T, (WINDOW_S,), n_mels) for audio_T in audios])
        return torch.from_numpy(mels_BCF).to(self._device)


def _model(path: Path) -> Whisper:
    """Load the model from a file whose weights match its dims exactly."""
    stored = read_pt(path, f"use the file of {ORIGIN}")
    if not isinstance(stored, dict) or not {_DIMS, _WEIGHTS} <= stored.keys():
        raise HproError(
            f"{path} is not a checkpoint of openai-whisper with {_DIMS!r} and {_WEIGHTS!r} "
            f"(a model for transformers has another format): use the file of {ORIGIN}"
        )
    hint = f"download it again with {ORIGIN}"
    dims = sizes_of(path, stored[_DIMS], ModelDimensions, hint)
    weights = stored[_WEIGHTS]
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise HproError(f"{path}: {_WEIGHTS} has values that are not tensors: {hint}")
    known = {name: value.shape for name, value in weights.items()}
    check_magnitudes(path, vars(dims), known, hint)
    sized = build_on_meta(lambda: _halves(dims), path, hint)
    check_fit(sized, weights, f"{path}: weights do not fit its dims", hint)
    model = Whisper(dims)
    model.load_state_dict(weights, strict=True)
    sides = ((dims.n_audio_state, dims.n_audio_head), (dims.n_text_state, dims.n_text_head))
    for state, heads in sides:
        if heads < 1 or state % heads:
            raise HproError(f"{path}: {state} is not divisible by {heads} heads: {hint}")
    if dims.n_mels not in _N_MELS or dims.n_audio_ctx != _N_AUDIO_CTX:
        raise HproError(
            f"{path}: n_mels is {dims.n_mels}, n_audio_ctx {dims.n_audio_ctx}, but 80 or 128 and "
            f"{_N_AUDIO_CTX} are expected: download it again with {ORIGIN}"
        )
    return model


def _halves(dims: ModelDimensions) -> nn.Module:
    """Encoder and decoder: all weights of `Whisper`; can be created on the meta device."""
    encoder = AudioEncoder(
        dims.n_mels, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer
    )
    decoder = TextDecoder(
        dims.n_vocab, dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer
    )
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})
