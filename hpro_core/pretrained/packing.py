"""Compressed weights of the shipped models: matrices in int8, everything else in float16 (ours).

Each row of a matrix is stored as integers in -127..127 and one float16 scale. That is a quarter of
the size of float32, and the error of a weight is at most 0.4 % of the largest of its row, or 3e-5.
Matrices of fewer than 16 rows stay in float16: they are small and sensitive (projections to codes,
the judge's means and deviations, of which the smallest would become 0).
"""

from pathlib import Path

import numpy as np

from hpro_core.errors import HproError
from hpro_core.io import read_json, read_safetensors, write_json, write_safetensors

SCALE = ".scale"
"""Suffix of the name under which the scales of a matrix are stored."""
_LEVELS = 127
_FEW_ROWS = 16
_SMALLEST = 2**-14  # lower bound of the scales: the smallest normal float16, also for zero rows


def pack(source: Path, out: Path) -> None:
    """Compress a trained model: from and to a folder with model.safetensors and config.json."""
    packed: dict[str, np.ndarray] = {}
    hint = "run the stage that trains it first"
    for name, weight in read_safetensors(source / "model.safetensors", hint).items():
        if weight.ndim < 2 or len(weight) < _FEW_ROWS:
            packed[name] = weight.astype(np.float16)
            continue
        packed[name], packed[name + SCALE] = rows_of_bytes(weight)
    write_safetensors(out / "model.safetensors", packed)
    write_json(out / "config.json", read_json(source / "config.json"))


def unpack(source: Path, out: Path) -> None:
    """Decompress a model to float32; folders as for `pack`.

    Raises:
        HproError: a file is missing or broken, or a matrix has no scales.
    """
    packed = read_safetensors(source / "model.safetensors", "download it again", own=False)
    weights: dict[str, np.ndarray] = {}
    for name, weight in packed.items():
        if weight.dtype == np.int8:
            if name + SCALE not in packed:
                raise HproError(f"{source}: weight {name} has no scales: download the base again")
            weights[name] = _matrix(weight, packed[name + SCALE])
        elif not name.endswith(SCALE):
            weights[name] = weight.astype(np.float32)
    write_safetensors(out / "model.safetensors", weights)
    write_json(out / "config.json", read_json(source / "config.json"))


def rows_of_bytes(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a float array of two or more axes to int8 of its shape and float16 row scales."""
    rows = weight.astype(np.float32).reshape(len(weight), -1)
    scale = np.maximum(np.abs(rows).max(axis=1) / _LEVELS, _SMALLEST).astype(np.float16)
    steps = np.round(rows / scale.astype(np.float32)[:, None]).clip(-_LEVELS, _LEVELS)
    return steps.astype(np.int8).reshape(weight.shape), scale


def _matrix(steps: np.ndarray, scale: np.ndarray) -> np.ndarray:
    rows = steps.reshape(len(steps), -1).astype(np.float32)
    return (rows * scale.astype(np.float32)[:, None]).reshape(steps.shape)
