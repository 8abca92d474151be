"""Models as they ship: matrices in 8-bit rows, everything else in 16 bits.

A row of a matrix is stored as whole numbers in -127..127 and one float16 scale: a quarter of the
size of float32, each weight within 0.4 % of the largest of its row or 3e-5 (ours). Matrices of a
few rows weigh little and matter much (projections to codes, the judge's means and deviations, of
which the smallest would become 0): they stay in 16 bits.
"""

from pathlib import Path

import numpy as np

from hpro_core.errors import HproError
from hpro_core.io import read_json, read_safetensors, write_json, write_safetensors

SCALE = ".scale"
"""Ends the name of the scales of a matrix."""
_LEVELS = 127
_FEW_ROWS = 16
_SMALLEST = 2**-14  # smallest normal float16: no row has a smaller scale, one of zeros has this


def pack(source: Path, out: Path) -> None:
    """Write the model of a folder packed: model.safetensors and config.json.

    Raises:
        HproError: a file is missing or broken.
    """
    packed: dict[str, np.ndarray] = {}
    cure = "run the stage that trains it first"
    for name, weight in read_safetensors(source / "model.safetensors", cure).items():
        if weight.ndim < 2 or len(weight) < _FEW_ROWS:
            packed[name] = weight.astype(np.float16)
            continue
        packed[name], packed[name + SCALE] = rows_of_bytes(weight)
    write_safetensors(out / "model.safetensors", packed)
    write_json(out / "config.json", read_json(source / "config.json"))


def unpack(source: Path, out: Path) -> None:
    """Write the model of a packed folder as training would have: float32.

    Raises:
        HproError: a file is missing or broken.
    """
    packed = read_safetensors(source / "model.safetensors", "get it again", own=False)
    for name, weight in packed.items():
        if weight.dtype == np.int8 and name + SCALE not in packed:
            raise HproError(f"{source}: weight {name} has no scales: get the base again")
    weights = {
        name: _matrix(weight, packed[name + SCALE]) if weight.dtype == np.int8 else weight
        for name, weight in packed.items()
        if not name.endswith(SCALE)
    }
    whole = {name: weight.astype(np.float32) for name, weight in weights.items()}
    write_safetensors(out / "model.safetensors", whole)
    write_json(out / "config.json", read_json(source / "config.json"))


def rows_of_bytes(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A float array of two or more axes as int8 of its shape, and a float16 scale per row."""
    rows = weight.astype(np.float32).reshape(len(weight), -1)
    scale = np.maximum(np.abs(rows).max(axis=1) / _LEVELS, _SMALLEST).astype(np.float16)
    steps = np.round(rows / scale.astype(np.float32)[:, None]).clip(-_LEVELS, _LEVELS)
    return steps.astype(np.int8).reshape(weight.shape), scale


def _matrix(steps: np.ndarray, scale: np.ndarray) -> np.ndarray:
    rows = steps.reshape(len(steps), -1).astype(np.float32)
    return (rows * scale.astype(np.float32)[:, None]).reshape(steps.shape)
