"""Published models in folders in Hugging Face format: their files, checked and read strictly."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.engine.checkpoint import check_fit, check_magnitudes, planned, state_dict_of
from hpro_core.errors import HproError
from hpro_core.io import read_json, read_safetensors_torch
from hpro_core.label.files import hugging_face_weights

MadeT = TypeVar("MadeT")
ModelT = TypeVar("ModelT", bound=nn.Module)

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
    return from_values(Wav2Vec2FeatureExtractor, values, path, origin)


def from_values(
    kind: Callable[..., MadeT], values: Mapping[str, Any], path: Path, origin: str
) -> MadeT:
    """A configuration of transformers from the values of its file.

    Args:
        kind: its class.
        values: what the file says.
        path: of the file, for the message.
        origin: where a good one is from.

    Raises:
        HproError: the class refuses a value.
    """
    try:
        return kind(**values)
    except Exception as error:  # transformers checks values by exceptions of many types
        raise HproError(f"{path}: {str(error)[:300]}: get it from {origin}") from error


def filled(
    build: Callable[[], ModelT], layers: int, path: Path, origin: str, unused: Iterable[str]
) -> ModelT:
    """A model with its weights, each of them and no other, in eval mode.

    The sizes are compared with the weights before memory is allocated for the model.

    Args:
        build: makes the model, of the sizes in the config.json beside the weights.
        layers: how many config.json says there are.
        path: of the weights.
        origin: where a good file is from, for messages.
        unused: names of weights that nothing but training reads; the file may or may not hold them.

    Raises:
        HproError: the file is broken, a weight is missing, unexpected or of another shape, or the
            sizes make no model.
    """
    if path.suffix == ".safetensors":
        stored = read_safetensors_torch(path, f"get it from {origin}", own=False)
    else:
        stored = state_dict_of(path, origin)
    weights = {_renamed(name): v for name, v in stored.items() if name not in set(unused)}
    config, cure = path.with_name("config.json"), f"get it from {origin}"
    shapes = {name: value.shape for name, value in weights.items()}
    check_magnitudes(config, {"num_hidden_layers": layers}, shapes, cure)
    says = f"{path} does not fit its config.json"
    check_fit(planned(build, config, cure), weights, says, f"get both from {origin}")
    model = build()
    model.load_state_dict(weights, strict=True)
    return model.eval()


def tried(run: Callable[[], object], folder: Path, origin: str) -> None:
    """Let a model run once, so that values which fit its weights and not its code are found.

    Raises:
        HproError: it does not run.
    """
    try:
        run()
    except Exception as error:  # a wrong value of a configuration can lead to any exception
        raise HproError(
            f"{folder} holds a model that does not run ({str(error)[:300]}): get its config.json "
            f"and preprocessor_config.json from {origin}"
        ) from error


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
