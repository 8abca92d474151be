"""Models on disk: weights as safetensors, sizes as JSON beside them, loaded strictly.

Also other projects' PyTorch files, read without running what may be in them.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from hpro_core.errors import HproError
from hpro_core.io import (
    read_json,
    read_pt,
    read_safetensors_torch,
    safetensors_header,
    write_json,
    write_safetensors_bytes,
)

BOOKKEEPING = ("epoch", "step")
"""What the trainers of CosyVoice and HD-Emo save beside the weights."""

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""The files of a model."""

RETRAIN = "run the stage that trains it"

_RATE = 1e7
"""Largest value of a setting of a model that is no size, such as a rotary base."""

SizesT = TypeVar("SizesT")
ModelT = TypeVar("ModelT", bound=nn.Module)


def save_model(folder: Path, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json, each whole or not at all.

    Raises:
        HproError: a weight is not finite, or a file cannot be written.
    """
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise HproError(
                f"{folder}: weight {name} is not finite, so no model is written: lower the "
                "learning rate of this stage in params.yaml"
            )
    write_safetensors_bytes(folder / WEIGHTS, save(weights))
    write_json(folder / CONFIG, config)


def model_config(folder: Path, what: str, *keys: str) -> dict[str, Any]:
    """The config.json of a model.

    Args:
        folder: of the model.
        what: the model should be, for messages ("a policy").
        keys: that the file must have.

    Raises:
        HproError: the file is missing or broken, or lacks a key.
    """
    config = read_json(folder / CONFIG, RETRAIN)
    for key in keys:
        if key not in config:
            raise HproError(f"{folder / CONFIG} is not of {what}: it has no {key!r}: {RETRAIN}")
    return config


def load_model(
    folder: Path, values: object, kind: type[SizesT], build: Callable[[SizesT], ModelT]
) -> ModelT:
    """A trained model of which config.json has the sizes, in eval mode.

    The sizes are compared with the weights before memory is allocated for the model: first each
    size with the axes of the weights, then the shapes of a model without storage.

    Args:
        folder: with model.safetensors and config.json.
        values: the sizes in config.json, by name.
        kind: the dataclass of the sizes.
        build: makes the model.

    Raises:
        HproError: a size is missing, unknown, of another type or does not go with the weights, or
            what `load_weights` raises.
    """
    path = folder / CONFIG
    sizes = _sizes(path, values, kind)
    _check_magnitudes(path, vars(sizes), safetensors_header(folder / WEIGHTS, RETRAIN))
    try:
        with torch.device("meta"):
            planned = build(sizes)
    except (RuntimeError, ValueError, AssertionError, ArithmeticError, TypeError) as error:
        raise HproError(f"{path}: these sizes make no model ({_line(error)}): {RETRAIN}") from error
    _check_shapes(folder, planned)
    model = build(sizes)
    load_weights(folder, model)
    return model.eval()


def load_weights(folder: Path, model: nn.Module) -> None:
    """Give a model its weights.

    Raises:
        HproError: the file is missing or broken, was changed after it was written, or a weight is
            missing, unexpected, of another shape or not finite.
    """
    _check_shapes(folder, model)
    path = folder / WEIGHTS
    weights = read_safetensors_torch(path, RETRAIN)
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise HproError(f"{path}: weight {name} is not finite: {RETRAIN}")
    model.load_state_dict(weights, strict=True)


def _sizes(path: Path, values: object, kind: type[SizesT]) -> SizesT:
    """The values as a dataclass of sizes."""
    if not isinstance(values, dict):
        raise HproError(f"{path}: model is a {type(values).__name__}, not a mapping: {RETRAIN}")
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in needed if name not in values]:
        raise HproError(f"{path}: model.{missing[0]} is missing: {RETRAIN}")
    for name, value in values.items():
        if name not in hints:
            raise HproError(f"{path}: model.{name} is not known to this version: {RETRAIN}")
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise HproError(f"{path}: model.{name} is {value!r}: {reason}: {RETRAIN}") from error
    return kind(**values)


def _check_magnitudes(path: Path, sizes: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """No size is larger than the longest axis of the weights, nor blocks more than weights."""
    most = _largest(header)
    for name, value in sizes.items():
        limit = _RATE if isinstance(value, float) else len(header) if "blocks" in name else most
        if isinstance(value, int | float) and not abs(value) <= limit:
            raise HproError(
                f"{path}: model.{name} is {value}, and nothing in {WEIGHTS} is so large: {RETRAIN}"
            )


def _largest(header: Mapping[str, Any]) -> int:
    """The longest axis of all weights."""
    shapes = [entry.get("shape") for entry in header.values() if isinstance(entry, dict)]
    axes = [axis for shape in shapes if isinstance(shape, list) for axis in shape]
    return max((axis for axis in axes if isinstance(axis, int)), default=0)


def _check_shapes(folder: Path, model: nn.Module) -> None:
    """Compare the weights of a model with the header of its file, before any is read."""
    path = folder / WEIGHTS
    header = safetensors_header(path, RETRAIN)
    header.pop("__metadata__", None)
    own = {name: list(value.shape) for name, value in model.state_dict().items()}
    for what, names in (("lacks", own.keys() - header.keys()),
                        ("has the unknown", header.keys() - own.keys())):  # fmt: skip
        if names:
            raise HproError(
                f"{path} does not fit its {CONFIG}: it {what} {min(names)} ({len(names)} such "
                f"weights): {RETRAIN}"
            )
    for name, shape in own.items():
        found = header[name].get("shape") if isinstance(header[name], dict) else None
        if found != shape:
            raise HproError(
                f"{path} does not fit its {CONFIG}: {name} is {found}, not {shape}: {RETRAIN}"
            )


def state_dict_of(path: Path, origin: str) -> dict[str, Tensor]:
    """Weights by name from a PyTorch file of another project, without the bookkeeping.

    Args:
        path: of the file.
        origin: where a good one is from, for messages.

    Raises:
        HproError: the file is missing or broken, or holds anything but weights; nothing in it runs.
    """
    state = read_pt(path, f"get it from {origin}, or save a plain state_dict()")
    if not isinstance(state, dict):
        raise HproError(f"{path} holds a {type(state).__name__}: save a plain state_dict()")
    weights = {name: value for name, value in state.items() if name not in BOOKKEEPING}
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise HproError(f"{path}: {name!r} is no weight: save a plain state_dict()")
    return weights


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
