"""Saving and strict loading of models: weights as safetensors, model sizes as JSON beside them.

PyTorch files of other projects are read without executing code that they may contain.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hpro_core.errors import HproError
from hpro_core.io import (
    read_json,
    read_pt,
    read_safetensors_torch,
    reason_of,
    safetensors_header,
    write_json,
    write_safetensors_bytes,
)

BOOKKEEPING = ("epoch", "step")
"""Entries that the trainers of CosyVoice and HD-Emo save beside the weights."""

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MODEL_FILES = (WEIGHTS, CONFIG)
"""Files of a model's folder."""
"""File names of a model."""

RETRAIN = "run the stage that trains it"

_RATE = 1e7
"""Largest accepted value of a float setting of a model, such as a rotary base."""

_TABLES = 1_000_000
"""Elements that a model may allocate besides its weights, for constants that are not saved."""

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand}

SizesT = TypeVar("SizesT")
ModelT = TypeVar("ModelT", bound=nn.Module)


def save_model(folder: Path, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json, each atomically.

    Args:
        folder: output folder.
        model: model whose state dict is written.
        config: content of config.json.

    Raises:
        HproError: a weight is not finite, or a file cannot be written.
    """
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    if name := _not_finite(weights):
        raise HproError(
            f"{folder}: weight {name} is not finite, so no model is written: lower the learning "
            "rate of this stage in params.yaml"
        )
    write_safetensors_bytes(folder / WEIGHTS, save(weights))
    write_json(folder / CONFIG, config)


def model_config(folder: Path, what: str, *keys: str) -> dict[str, Any]:
    """Read the config.json of a model.

    Args:
        folder: model folder.
        what: expected kind of model, for error messages ("a policy").
        keys: required keys.

    Raises:
        HproError: the file is missing or broken, or lacks a key.
    """
    config = read_json(folder / CONFIG, RETRAIN)
    for key in keys:
        if key not in config:
            raise HproError(
                f"{folder / CONFIG} is not the config of {what}: it has no {key!r}: {RETRAIN}"
            )
    return config


def load_model(
    folder: Path, values: object, kind: type[SizesT], build: Callable[[SizesT], ModelT]
) -> ModelT:
    """Load a trained model whose sizes are in config.json, in eval mode.

    The sizes are checked against the weights before memory is allocated for the model: each size
    against the axes of the weights, and the number of elements that the model allocates against
    the number of elements of the weights.

    Args:
        folder: model folder with model.safetensors and config.json.
        values: model sizes in config.json, by name.
        kind: dataclass of the sizes.
        build: function that builds the model from its sizes.

    Raises:
        HproError: a size is missing, unknown, of another type or inconsistent with the weights, or
            the weights cannot be loaded (`load_weights`).
    """
    path = folder / CONFIG
    sizes = sizes_of(path, values, kind, RETRAIN)
    shapes = shapes_of(folder / WEIGHTS, RETRAIN)
    check_magnitudes(path, vars(sizes), shapes, RETRAIN)
    model = build_checked(lambda: build(sizes), path, shapes, RETRAIN)
    _check_shapes(folder, model, shapes)
    _fill(folder, model)
    return model.eval()


def load_weights(folder: Path, model: nn.Module) -> None:
    """Load model.safetensors into a model.

    Args:
        folder: model folder.
        model: model to load into, changed in place.

    Raises:
        HproError: the file is missing or broken, was changed after it was written, or a weight is
            missing, unexpected, of another shape or not finite.
    """
    _check_shapes(folder, model, shapes_of(folder / WEIGHTS, RETRAIN))
    _fill(folder, model)


def _fill(folder: Path, model: nn.Module) -> None:
    """Read the weights and copy them into a model whose names and shapes match."""
    path = folder / WEIGHTS
    weights = read_safetensors_torch(path, RETRAIN)
    if name := _not_finite(weights):
        raise HproError(f"{path}: weight {name} is not finite: {RETRAIN}")
    model.load_state_dict(weights, strict=True)


def _not_finite(weights: Mapping[str, Tensor]) -> str:
    """Return the name of the first weight that is not finite, or an empty string."""
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            return name
    return ""


class _AllocationLimit(TorchFunctionMode):
    """Raises if a model allocates more elements than its weights file and small tables account for.

    PyTorch's "meta" device would give the sizes too, but it imports the compiler: 1.5 s per
    process.
    """

    def __init__(self, numbers: int):
        """`numbers`: total number of elements of the weights."""
        super().__init__()
        self.n_left = 2 * numbers + _TABLES

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self.n_left -= _elements_of(kwargs.get("size", args))
            if self.n_left < 0:
                raise ValueError("they need more elements than the weights have")
        return func(*args, **kwargs)


def _elements_of(size: Sequence[Any]) -> int:
    """Count the elements of a tensor of shape `size`, given as integers or as one sequence."""
    first = size[0] if size else 1
    return math.prod(
        first if isinstance(first, tuple | list) else [n for n in size if type(n) is int]
    )


def build_on_meta(build: Callable[[], ModelT], path: Path, hint: str) -> ModelT:
    """Build a model on the meta device: its weights have names and shapes, but no storage.

    Args:
        build: function that builds the model.
        path: file with the model sizes, for error messages.
        hint: corrective action, for error messages.

    Raises:
        HproError: no model can be built with these sizes.
    """
    return _built(build, torch.device("meta"), path, hint)


def build_checked(
    build: Callable[[], ModelT], path: Path, shapes: Mapping[str, Sequence[int]], hint: str
) -> ModelT:
    """Build a model that allocates no more memory than its weights file accounts for.

    Args:
        build: function that builds the model.
        path: file with the model sizes, for error messages.
        shapes: shapes of the weights in the file, by name.
        hint: corrective action, for error messages.

    Raises:
        HproError: no model can be built with these sizes, or it would allocate more.
    """
    numbers = sum(math.prod(shape) for shape in shapes.values())
    return _built(build, _AllocationLimit(numbers), path, hint)


def _built(
    build: Callable[[], ModelT], within: torch.device | _AllocationLimit, path: Path, hint: str
) -> ModelT:
    """Build a model within a context; an error of the sizes names their file."""
    try:
        with within:
            return build()
    except Exception as error:  # a wrong size can raise any exception
        raise HproError(
            f"{path}: no model can be built with these sizes ({reason_of(error)}): {hint}"
        ) from error


def sizes_of(path: Path, values: object, kind: type[SizesT], hint: str) -> SizesT:
    """Validate the sizes of a model and return them as a dataclass.

    Args:
        path: file with the model sizes, for error messages.
        values: sizes by name.
        kind: dataclass of the sizes.
        hint: corrective action, for error messages.

    Raises:
        HproError: a size is missing, unknown or of another type.
    """
    if not isinstance(values, dict):
        raise HproError(f"{path}: model is a {type(values).__name__}, not a mapping: {hint}")
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in needed if name not in values]:
        raise HproError(f"{path}: model.{missing[0]} is missing: {hint}")
    for name, value in values.items():
        if name not in hints:
            raise HproError(f"{path}: model.{name} is unknown to this version: {hint}")
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise HproError(f"{path}: model.{name} is {value!r}: {reason}: {hint}") from error
    return kind(**values)


def shapes_of(path: Path, hint: str) -> dict[str, list[int]]:
    """Read the shape of each weight from the header of a safetensors file."""
    header = safetensors_header(path, hint)
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def check_magnitudes(
    path: Path, sizes: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], hint: str
) -> None:
    """Reject sizes above the longest axis of the weights, and more blocks than there are weights.

    Args:
        path: file with the model sizes, for error messages.
        sizes: sizes by name; a number of layers has "blocks" or "layer" in its name.
        shapes: shapes of the weights that belong to them, by name.
        hint: corrective action, for error messages.

    Raises:
        HproError: a size is larger than the weights allow.
    """
    most = max((axis for shape in shapes.values() for axis in shape), default=0)
    for name, value in sizes.items():
        counts = "blocks" in name or "layer" in name
        limit = _RATE if isinstance(value, float) else len(shapes) if counts else most
        if isinstance(value, int | float) and not abs(value) <= limit:
            raise HproError(
                f"{path}: model.{name} is {value}, larger than any size of its weights: {hint}"
            )


def _check_shapes(folder: Path, model: nn.Module, found: Mapping[str, Sequence[int]]) -> None:
    """Compare the names and shapes of a model's weights with its file, before they are read."""
    path = folder / WEIGHTS
    own = {name: list(value.shape) for name, value in model.state_dict().items()}
    for what, names in (("lacks", own.keys() - found.keys()),
                        ("has the unknown", found.keys() - own.keys())):  # fmt: skip
        if names:
            raise HproError(
                f"{path} does not fit its {CONFIG}: it {what} {min(names)} ({len(names)} such "
                f"weights): {RETRAIN}"
            )
    for name, shape in own.items():
        if found[name] != shape:
            raise HproError(
                f"{path} does not fit its {CONFIG}: {name} is {found[name]}, not {shape}: {RETRAIN}"
            )


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], message: str, hint: str) -> None:
    """Compare the weights of another project with a model built by `build_on_meta`.

    Args:
        model: model without storage.
        weights: weights by name.
        message: start of the error message, which names the file and what it does not fit.
        hint: corrective action, for error messages.

    Raises:
        HproError: a weight is missing, unexpected or of another shape.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # nothing is copied into it
            model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:400]
        raise HproError(f"{message} ({detail}): {hint}") from error


def state_dict_of(path: Path, origin: str) -> dict[str, Tensor]:
    """Read the weights by name from a PyTorch file of another project, without BOOKKEEPING.

    Args:
        path: PyTorch file; code in it is not executed.
        origin: source of a valid file, for error messages.

    Raises:
        HproError: the file is missing or broken, or holds anything but weights.
    """
    state = read_pt(path, f"get it from {origin}, or save a plain state_dict()")
    if not isinstance(state, dict):
        raise HproError(f"{path} holds a {type(state).__name__}: save a plain state_dict()")
    weights = {name: value for name, value in state.items() if name not in BOOKKEEPING}
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise HproError(f"{path}: {name!r} is not a weight: save a plain state_dict()")
    return weights
