"""Models on disk: weights as safetensors, sizes as JSON beside them, loaded strictly.

Also other projects' PyTorch files, read without running what may be in them.
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
"""What the trainers of CosyVoice and HD-Emo save beside the weights."""

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""The files of a model."""

RETRAIN = "run the stage that trains it"

_RATE = 1e7
"""Largest value of a setting of a model that is no size, such as a rotary base."""

_TABLES = 1_000_000
"""Numbers that a model may hold besides its weights: constants that are not saved."""

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand}

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
    if name := _not_finite(weights):
        raise HproError(
            f"{folder}: weight {name} is not finite, so no model is written: lower the learning "
            "rate of this stage in params.yaml"
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

    The sizes are compared with the weights before memory is allocated for the model: each size with
    the axes of the weights, and what the model asks for with the numbers that the weights have.

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
    sizes = sizes_of(path, values, kind, RETRAIN)
    shapes = shapes_of(folder / WEIGHTS, RETRAIN)
    check_magnitudes(path, vars(sizes), shapes, RETRAIN)
    model = allowed(lambda: build(sizes), path, shapes, RETRAIN)
    _check_shapes(folder, model, shapes)
    _fill(folder, model)
    return model.eval()


def load_weights(folder: Path, model: nn.Module) -> None:
    """Give a model its weights.

    Raises:
        HproError: the file is missing or broken, was changed after it was written, or a weight is
            missing, unexpected, of another shape or not finite.
    """
    _check_shapes(folder, model, shapes_of(folder / WEIGHTS, RETRAIN))
    _fill(folder, model)


def _fill(folder: Path, model: nn.Module) -> None:
    """Read weights whose names and shapes are those of the model."""
    path = folder / WEIGHTS
    weights = read_safetensors_torch(path, RETRAIN)
    if name := _not_finite(weights):
        raise HproError(f"{path}: weight {name} is not finite: {RETRAIN}")
    model.load_state_dict(weights, strict=True)


def _not_finite(weights: Mapping[str, Tensor]) -> str:
    """The first weight with a number that is not finite, or an empty string."""
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            return name
    return ""


class _Allowance(TorchFunctionMode):
    """Refuses a model that asks for more numbers than its file and small tables explain.

    PyTorch's "meta" device would tell the sizes too, but imports its compiler: 1.5 s a process.
    """

    def __init__(self, numbers: int):
        """`numbers`: that the weights have."""
        super().__init__()
        self.left = 2 * numbers + _TABLES

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self.left -= _numbers_asked(kwargs.get("size", args))
            if self.left < 0:
                raise ValueError("they ask for more numbers than the weights have")
        return func(*args, **kwargs)


def _numbers_asked(size: Sequence[Any]) -> int:
    """Elements of a tensor that is asked for by `size`, as integers or as a sequence of them."""
    first = size[0] if size else 1
    return math.prod(
        first if isinstance(first, tuple | list) else [n for n in size if type(n) is int]
    )


def planned(build: Callable[[], ModelT], path: Path, cure: str) -> ModelT:
    """A model without storage: its weights have names and shapes, and take no memory.

    Args:
        build: makes the model.
        path: of the file that has the sizes, for the message.
        cure: what to do if they make none.

    Raises:
        HproError: the sizes make no model.
    """
    try:
        with torch.device("meta"):
            return build()
    except Exception as error:  # a size of other projects' models can lead to any exception
        raise HproError(
            f"{path}: these sizes make no model ({reason_of(error)}): {cure}"
        ) from error


def allowed(
    build: Callable[[], ModelT], path: Path, shapes: Mapping[str, Sequence[int]], cure: str
) -> ModelT:
    """A model that takes no more memory than the weights of its file explain.

    Args:
        build: makes the model.
        path: of the file that has the sizes, for the message.
        shapes: of the weights.
        cure: what to do if they make none.

    Raises:
        HproError: the sizes make no model, or one that asks for more.
    """
    try:
        with _Allowance(sum(math.prod(shape) for shape in shapes.values())):
            return build()
    except Exception as error:  # a wrong size can lead to any exception
        raise HproError(
            f"{path}: these sizes make no model ({reason_of(error)}): {cure}"
        ) from error


def sizes_of(path: Path, values: object, kind: type[SizesT], cure: str) -> SizesT:
    """The sizes of a model as their dataclass.

    Args:
        path: of the file that has them, for messages.
        values: by name.
        kind: the dataclass.
        cure: what to do about a wrong one.

    Raises:
        HproError: a size is missing, unknown or of another type.
    """
    if not isinstance(values, dict):
        raise HproError(f"{path}: model is a {type(values).__name__}, not a mapping: {cure}")
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in needed if name not in values]:
        raise HproError(f"{path}: model.{missing[0]} is missing: {cure}")
    for name, value in values.items():
        if name not in hints:
            raise HproError(f"{path}: model.{name} is not known to this version: {cure}")
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise HproError(f"{path}: model.{name} is {value!r}: {reason}: {cure}") from error
    return kind(**values)


def shapes_of(path: Path, cure: str) -> dict[str, list[int]]:
    """The shape of each weight in a safetensors file, of which only the header is read."""
    header = safetensors_header(path, cure)
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def check_magnitudes(
    path: Path, sizes: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], cure: str
) -> None:
    """Refuse a size above the longest axis of the weights, and more blocks than there are weights.

    Args:
        path: of the file that has the sizes, for the message.
        sizes: by name; of numbers of layers the name has "blocks" or "layers" in it.
        shapes: of the weights that belong to them.
        cure: what to do about a wrong one.

    Raises:
        HproError: a size does not go with the weights.
    """
    most = max((axis for shape in shapes.values() for axis in shape), default=0)
    for name, value in sizes.items():
        counts = "blocks" in name or "layer" in name
        limit = _RATE if isinstance(value, float) else len(shapes) if counts else most
        if isinstance(value, int | float) and not abs(value) <= limit:
            raise HproError(
                f"{path}: model.{name} is {value}, and nothing in its weights is so large: {cure}"
            )


def _check_shapes(folder: Path, model: nn.Module, found: Mapping[str, Sequence[int]]) -> None:
    """Compare the weights of a model with the shapes in its file, before any is read."""
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


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], says: str, cure: str) -> None:
    """Compare weights of another project with a model that `planned` made.

    Args:
        model: without storage.
        weights: by name.
        says: which file does not fit what, for the message.
        cure: what to do then.

    Raises:
        HproError: a weight is missing, unexpected or of another shape.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # nothing is copied into it
            model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:400]
        raise HproError(f"{says} ({detail}): {cure}") from error


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
