"""Published models in folders in Hugging Face format: their files, checked and read strictly."""

from collections.abc import Iterable
from pathlib import Path

from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.engine.checkpoint import state_dict_of
from hpro_core.errors import HproError
from hpro_core.io import read_json, read_safetensors_torch
from hpro_core.label.files import hugging_face_weights

# How weight normalisation was stored before PyTorch 2.0, as in the published files, and since.
_RENAMED = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}


def weights_file(folder: Path, origin: str) -> Path:
    """The weights in a folder: safetensors where there are both.

    Args:
        folder: of the model.
        origin: where a good one is from, for messages.

    Raises:
        HproError: there are none.
    """
    path = hugging_face_weights(folder)
    if path.is_file():
        return path
    raise HproError(
        f"{folder} holds neither model.safetensors nor pytorch_model.bin: get the whole folder of "
        f"{origin}, and name it in params.yaml"
    )


def extractor_of(folder: Path, origin: str) -> Wav2Vec2FeatureExtractor:
    """What normalises and pads waveforms, from preprocessor_config.json.

    Raises:
        HproError: the file is missing or broken, or for another sampling rate.
    """
    path = folder / "preprocessor_config.json"
    values = read_json(path, f"get it from {origin}")
    if values.get("sampling_rate") != SAMPLE_RATE_HZ:
        raise HproError(
            f"{path}: sampling_rate is {values.get('sampling_rate')}, not {SAMPLE_RATE_HZ}: "
            f"get the file of {origin}"
        )
    extractor = Wav2Vec2FeatureExtractor.from_dict(values)
    assert isinstance(extractor, Wav2Vec2FeatureExtractor)
    return extractor


def fill(path: Path, model: nn.Module, origin: str, unused: Iterable[str]) -> None:
    """Give a model its weights, each of them and no other.

    Args:
        path: of the weights.
        model: gets them.
        origin: where a good file is from, for messages.
        unused: names of weights that nothing but training reads; the file may or may not hold them.

    Raises:
        HproError: the file is broken, or a weight is missing, unexpected or of another shape.
    """
    if path.suffix == ".safetensors":
        stored = read_safetensors_torch(path, f"get it from {origin}", own=False)
    else:
        stored = state_dict_of(path, origin)
    weights = {_renamed(name): v for name, v in stored.items() if name not in set(unused)}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:400]
        raise HproError(
            f"{path} does not fit its config.json ({detail}): get both from {origin}"
        ) from error


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
