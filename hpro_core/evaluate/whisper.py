"""The paper's ASR judge: OpenAI's Whisper large-v3, published weights by OpenAI's own package.

Letters: B clips of a batch, T samples, C mel channels, F mel frames of 10 ms, L tokens.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from whisper.decoding import DecodingOptions
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder, Whisper
from whisper.tokenizer import get_tokenizer

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.engine.checkpoint import check_fit, check_magnitudes, planned, sizes_of
from hpro_core.errors import HproError
from hpro_core.evaluate.asr import most_tokens, padded_mel
from hpro_core.evaluate.realignment import read_wav
from hpro_core.io import fingerprint, read_pt
from hpro_core.label.teachers import SpokenUtterance

ORIGIN = "the package openai-whisper, which fetches large-v3.pt"
WINDOW_S = 30
"""The model hears no other length."""
_DIMS, _WEIGHTS = "dims", "model_state_dict"
_N_MELS, _N_AUDIO_CTX = (80, 128), 50 * WINDOW_S


class WhisperTranscripts:
    """What clips say, in English, in batches.

    Greedy and at temperature 0, the default of the package's Python functions but for its second
    tries at higher temperatures; a beam takes one clip at a time there (openai/whisper#2197).
    """

    def __init__(self, path: Path, batch_size: int, device: torch.device):
        """
        Args:
            path: a .pt file as OpenAI publishes it.
            batch_size: clips that go through the model together.
            device: where the model runs, in float32.

        Raises:
            HproError: the file is missing, broken or of another kind, or weights do not fit.
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

    def hear(self, clips: Sequence[SpokenUtterance]) -> list[str]:
        """Write down the words of each clip, as the model spells them.

        A clip's words do not depend on what it is batched with: all are padded to 30 s, beyond
        which nothing is heard, and none gets more tokens than `asr.most_tokens`.

        Raises:
            HproError: audio is unreadable, empty, or not 16 kHz mono.
        """
        return [text for batch in _batches(clips, self.batch_size) for text in self._batch(batch)]

    @torch.inference_mode()
    def _batch(self, clips: Sequence[SpokenUtterance]) -> list[str]:
        audios = [read_wav(clip.audio)[: WINDOW_S * SAMPLE_RATE_HZ] for clip in clips]
        most_B = [most_tokens(audio_T) for audio_T in audios]
        options = DecodingOptions(
            language="en", without_timestamps=True, sample_len=max(most_B), fp16=False
        )
        results = self._model.decode(self._mel(audios), options)
        # A greedy decoder's first tokens are what it writes under a tighter limit.
        tokens = [result.tokens[:most] for result, most in zip(results, most_B, strict=True)]
        return [self._tokenizer.decode(tokens_L).strip() for tokens_L in tokens]

    def _mel(self, audios: Sequence[np.ndarray]) -> torch.Tensor:
        """Float32 (B, C, F), a clip's by itself alone."""
        n_mels = self._model.dims.n_mels
        mels_BCF = np.concatenate([padded_mel(audio_T, (WINDOW_S,), n_mels) for audio_T in audios])
        return torch.from_numpy(mels_BCF).to(self._device)


def _model(path: Path) -> Whisper:
    """The model in a file, with all its weights and no other."""
    stored = read_pt(path, f"take the file of {ORIGIN}")
    if not isinstance(stored, dict) or not {_DIMS, _WEIGHTS} <= stored.keys():
        raise HproError(
            f"{path} is no checkpoint of openai-whisper, which holds {_DIMS!r} and {_WEIGHTS!r} "
            f"(a model for transformers is another format): take the file of {ORIGIN}"
        )
    cure = f"get it again from {ORIGIN}"
    dims = sizes_of(path, stored[_DIMS], ModelDimensions, cure)
    weights = stored[_WEIGHTS]
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise HproError(f"{path}: {_WEIGHTS} holds other things than weights: {cure}")
    known = {name: value.shape for name, value in weights.items()}
    check_magnitudes(path, vars(dims), known, cure)
    sized = planned(lambda: _halves(dims), path, cure)
    check_fit(sized, weights, f"{path}: weights do not fit its dims", cure)
    model = Whisper(dims)
    model.load_state_dict(weights, strict=True)
    sides = ((dims.n_audio_state, dims.n_audio_head), (dims.n_text_state, dims.n_text_head))
    for state, heads in sides:
        if heads < 1 or state % heads:
            raise HproError(f"{path}: {state} does not split into {heads} heads: {cure}")
    if dims.n_mels not in _N_MELS or dims.n_audio_ctx != _N_AUDIO_CTX:
        raise HproError(
            f"{path}: n_mels is {dims.n_mels}, n_audio_ctx {dims.n_audio_ctx}, but 80 or 128 and "
            f"{_N_AUDIO_CTX} in a Whisper: get it again from {ORIGIN}"
        )
    return model


def _halves(dims: ModelDimensions) -> nn.Module:
    """All of `Whisper` that has weights, which can be made without storage."""
    encoder = AudioEncoder(
        dims.n_mels, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer
    )
    decoder = TextDecoder(
        dims.n_vocab, dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer
    )
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def _batches(clips: Sequence[SpokenUtterance], size: int) -> Iterator[Sequence[SpokenUtterance]]:
    for start in range(0, len(clips), size):
        yield clips[start : start + size]
