"""Strict loading of published models from folders in Hugging Face format.

`origin` is the source of a model, for error messages.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import read_json, read_safetensors_torch
from hpro_core.label.files import hugging_face_weights
from hpro_core.train.checkpoint import build_on_meta, check_fit, check_magnitudes, state_dict_of

MadeT = TypeVar("MadeT")
ModelT = TypeVar("ModelT", bound=nn.Module)

# Names of weight normalisation before PyTorch 2.0, as in the published files -> names since then.
_RENAMED = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}


def find_weights_file(folder: Path, origin: str) -> Path:
    """Find the weights file of a folder; safetensors if both formats exist.

    Raises:
        HproError: there is no weights file.
    """
    path = hugging_face_weights(folder)
    if path.is_file():
        return path
    raise HproError(
        f"{folder} has neither model.safetensors nor pytorch_model.bin: download the whole folder "
        f"of {origin} and set its path in params.yaml"
    )


def load_feature_extractor(folder: Path, origin: str) -> Wav2Vec2FeatureExtractor:
    """Load the feature extractor of a folder, which normalises and pads waveforms.

    Raises:
        HproError: the file is missing or broken, or has another sampling rate than 16 kHz.
    """
    path = folder / "preprocessor_config.json"
    values = read_json(path, f"download it from {origin}")
    if values.get("sampling_rate") != SAMPLE_RATE_HZ:
        raise HproError(
            f"{path}: sampling_rate is {values.get('sampling_rate')}, not {SAMPLE_RATE_HZ}: "
            f"use the file of {origin}"
        )
    return from_values(Wav2Vec2FeatureExtractor, values, path, origin)


def from_values(
    kind: Callable[..., MadeT], values: Mapping[str, Any], path: Path, origin: str
) -> MadeT:
    """Build a configuration object of transformers from the values of the file at `path`.

    Raises:
        HproError: the class rejects a value.
    """
    try:
        return kind(**values)
    except Exception as error:  # transformers raises exceptions of many types
        raise HproError(f"{path}: {str(error)[:300]}: use the file of {origin}") from error


def load_strict(
    build: Callable[[], ModelT], layers: int, path: Path, origin: str, unused: Iterable[str]
) -> ModelT:
    """Build a model and load its weights strictly, in eval mode.

    The sizes are checked against the weights before memory is allocated for the model.

    Args:
        build: function that builds the model with the sizes in config.json.
        layers: number of layers in config.json.
        path: weights file, with config.json beside it.
        origin: source of the model, for error messages.
        unused: names of weights that are used in training only; the file may or may not have them.

    Raises:
        HproError: the file is broken, a weight is missing, unexpected or of another shape, or no
            model can be built with the sizes.
    """
    if path.suffix == ".safetensors":
        stored = read_safetensors_torch(path, f"download it from {origin}", own=False)
    else:
        stored = state_dict_of(path, origin)
    weights = {_renamed(name): v for name, v in stored.items() if name not in set(unused)}
    config, hint = path.with_name("config.json"), f"use the file of {origin}"
    shapes = {name: value.shape for name, value in weights.items()}
    check_magnitudes(config, {"num_hidden_layers": layers}, shapes, hint)
    message = f"{path} does not fit its config.json"
    check_fit(build_on_meta(build, config, hint), weights, message, f"use both files of {origin}")
    model = build()
    model.load_state_dict(weights, strict=True)
    return model.eval()


def check_runs(run: Callable[[], object], folder: Path, origin: str) -> None:
    """Run a model once, to find settings that fit its weights but make its code fail.

    Raises:
        HproError: `run` raises any exception.
    """
    try:
        run()
    except Exception as error:  # a wrong value of a configuration can raise any exception
        raise HproError(
            f"the model in {folder} does not run ({str(error)[:300]}): use config.json and "
            f"preprocessor_config.json of {origin}"
        ) from error


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
