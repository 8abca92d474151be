"""Published speaker judge: microsoft/wavlm-base-plus-sv, a speaker verification model.

Weights come from a folder in Hugging Face format (docs/judges.md).
Letters: T samples, D embedding dimensions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import WavLMConfig, WavLMForXVector

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, read_json
from hpro_core.judges.realignment import pad_to_duration, read_wav
from hpro_core.label.files import HUGGING_FACE
from hpro_core.label.hugging_face import (
    check_runs,
    find_weights_file,
    from_values,
    load_feature_extractor,
    load_strict,
)
from hpro_core.label.teachers import AlignedUtterance

ORIGIN = "microsoft/wavlm-base-plus-sv"
MIN_DURATION_S = 0.5
"""Shorter clips are zero-padded to this (ours): the head's filters span 15 frames of 20 ms."""

# Used in training only: the mask embedding, and the loss over the training speakers.
_UNUSED = ("wavlm.masked_spec_embed", "objective.weight")


class WavlmSpeakerEncoder:
    """Compute the x-vector of a clip, normalised to unit length (model card).

    Clips are processed one at a time, because in a batch the result depends on the other clips: the
    first convolution is normalised over the padding too, and the number of padded frames in the
    head ignores its dilations (transformers 5.17).
    """

    def __init__(self, folder: Path, device: torch.device):
        """
        Args:
            folder: folder with config.json, preprocessor_config.json, and model.safetensors or,
                without it, pytorch_model.bin.
            device: device of the model, which runs in float32.

        Raises:
            HproError: a file is missing, broken or of another model, or weights do not fit.
        """
        self.weights = find_weights_file(folder, ORIGIN)
        self._extractor = load_feature_extractor(folder, ORIGIN)
        self._device = device
        config = _config(folder / "config.json")
        layers = config.num_hidden_layers
        self._model = load_strict(lambda: _network(config), layers, self.weights, ORIGIN, _UNUSED)
        torch.nn.Module.to(self._model, device)  # transformers' own `to` has no types
        shortest_T = np.zeros(round(MIN_DURATION_S * SAMPLE_RATE_HZ), dtype=np.float32)
        check_runs(lambda: self._embedded(shortest_T), folder, ORIGIN)
        files = (self.weights, *(folder / name for name in HUGGING_FACE))
        self.identity: dict[str, object] = {"judge": ORIGIN, "files": fingerprint(*files)}

    def predict(self, clips: Sequence[AlignedUtterance]) -> list[np.ndarray]:
        """Compute the speaker embedding of each clip, float32 (D,), unit length.

        Raises:
            HproError: audio is unreadable, empty, or not 16 kHz mono, or the model returns a value
                that is not finite.
        """
        voices = []
        for clip in clips:
            embedding_D = self._embedded(pad_to_duration(read_wav(clip.audio), MIN_DURATION_S))
            if not np.isfinite(embedding_D).all():
                raise HproError(
                    f"{clip.utt_id}: {self.weights} returns values that are not finite for "
                    f"{clip.audio}: check the audio, or download the weights again"
                )
            voices.append(embedding_D)
        return voices

    @torch.inference_mode()
    def _embedded(self, audio_T: np.ndarray) -> np.ndarray:
        inputs = self._extractor(audio_T, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
        found_1D = self._model(inputs["input_values"].to(self._device)).embeddings
        return functional.normalize(found_1D, dim=-1)[0].cpu().numpy()


def _network(config: WavLMConfig) -> nn.Module:
    model: nn.Module = WavLMForXVector(config)
    del model.objective
    return model


def _config(path: Path) -> WavLMConfig:
    values = read_json(path)
    if values.get("model_type") != "wavlm":
        raise HproError(
            f"{path}: model_type is {values.get('model_type')!r}, but 'wavlm' is expected: use the "
            f"files of {ORIGIN}"
        )
    config = from_values(WavLMConfig, values, path, ORIGIN)
    config.mask_time_prob = config.mask_feature_prob = (
        0.0  # without masking there is no mask embedding
    )
    return config
