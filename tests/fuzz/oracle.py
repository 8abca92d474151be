"""What a mutant may lead to: a value that is read again equal, or one line that names the file."""

import dataclasses
import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from hpro_core.errors import HproError
from tests.fuzz.guard import LIMIT_S, Hang, time_limit
from tests.fuzz.targets import Target

_MEMORY = re.compile(r"alloc|out of memory|memory error", re.IGNORECASE)
PASSED = ("accepted", "refused")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        result: "accepted", "refused", or what went wrong.
        detail: message of the refusal, or more of what went wrong.
        signature: the same for failures that have one cause.
        value: what was read, if it was.
    """

    result: str
    detail: str = ""
    signature: str = ""
    value: object = None


def attempt(
    target: Target, folder: Path, scratch: Path, known: set[str], limit_s: float = LIMIT_S
) -> Outcome:
    """Read the files of a target twice, and once more what was written of the value.

    Args:
        target: whose reader is called.
        folder: of its artefacts, one of them changed.
        scratch: an empty folder.
        known: names of files and folders that a refusal may name.
        limit_s: for all of it.
    """
    try:
        with time_limit(limit_s):
            value = target.read(folder)
            if not equal(value, target.read(folder)):
                return Outcome("not stable", "the second reading is another", "not stable")
            if target.again is not None and not equal(value, target.again(value, scratch)):
                return Outcome("not stable", "what was written is read otherwise", "not written")
    except Hang:
        return Outcome("hang", f"longer than {limit_s:g} s", f"hang in {target.name}")
    except BaseException as error:
        return _refusal(target, error, known)
    return Outcome("accepted", value=value)


def _refusal(target: Target, error: BaseException, known: set[str]) -> Outcome:
    message = str(error)
    if memory := next((e for e in _chain(error) if _is_memory(e)), None):
        return Outcome("memory", f"{memory!r}"[:300], f"memory in {_origin(memory)}")
    if not isinstance(error, (*target.refusals, HproError)):
        place = _origin(error)
        detail = f"{type(error).__name__}: {message[:300]} ({place})"
        return Outcome("raw exception", detail, f"{type(error).__name__} in {place}")
    if not message.isprintable():
        return Outcome("not one line", f"{message[:300]!r}", f"not one line in {_origin(error)}")
    if isinstance(error, HproError) and not _names(message, known, target.names):
        return Outcome("names no file", message[:300], f"names no file in {_origin(error)}")
    return Outcome("refused", message)


def _names(message: str, known: set[str], more: tuple[str, ...]) -> bool:
    return any(name in message for name in (*known, *more))


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, HproError):
        return False
    return isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)[:500]))


def _origin(error: BaseException) -> str:
    """The innermost line of this project in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "hpro_core" in frame.filename] or list(frames)
    if not ours:
        return "?"
    name = ours[-1].filename.rpartition("hpro_core/")[2].rpartition("/tests/")[2]
    return f"{name}:{ours[-1].lineno} {ours[-1].name}"


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, numbers bit for bit, NaN equal to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        same = (one.dtype, one.shape, one.layout) == (other.dtype, other.shape, other.layout)
        return same and (one.is_sparse or _same_array(_array(one), _array(other)))
    if isinstance(one, nn.Module):
        return equal(dict(one.state_dict()), dict(other.state_dict()))
    if isinstance(one, np.ndarray):
        return _same_array(one, other)
    if isinstance(one, pd.DataFrame):
        return list(one.columns) == list(other.columns) and all(
            one.iloc[:, i].dtype == other.iloc[:, i].dtype
            and equal(one.iloc[:, i].tolist(), other.iloc[:, i].tolist())
            for i in range(one.shape[1])
        )
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float | np.floating):
        return one == other or (math.isnan(one) and math.isnan(other))
    if dataclasses.is_dataclass(one):
        return equal(vars(one), vars(other))
    return one is other or bool(one == other)


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    kind = {2: torch.int16, 1: torch.int8}.get(tensor.element_size())
    if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2) and kind:
        tensor = tensor.contiguous().view(kind)
    return tensor.numpy()


def _same_array(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return equal(one.tolist(), other.tolist())
    if one.dtype.kind in "fc":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))
