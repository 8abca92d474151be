"""Models as they ship: matrices in 8-bit rows, everything else in 16 bits.

A row of a matrix is stored as whole numbers in -127..127 and one float16 scale: a quarter of the
size of float32, each weight within 0.4 % of the largest of its row or 3e-5 (ours). Matrices of a
few rows weigh little and matter much (projections to codes, the judge's means and deviations, of
which the smallest would become 0): they stay in 16 bits.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hpro_core.engine.checkpoint import read_json, write_json
from hpro_core.errors import HproError

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
    packed: dict[str, Tensor] = {}
    for name, weight in _read(source, "run the stage that trains it first").items():
        if weight.ndim < 2 or len(weight) < _FEW_ROWS:
            packed[name] = weight.half()
            continue
        packed[name], packed[name + SCALE] = rows_of_bytes(weight)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes(save(packed))
    write_json(out / "config.json", read_json(source / "config.json"))


def unpack(source: Path, out: Path) -> None:
    """Write the model of a packed folder as training would have: float32.

    Raises:
        HproError: a file is missing or broken.
    """
    packed = _read(source, "get it again")
    weights = {
        name: _matrix(weight, packed[name + SCALE]) if weight.dtype == torch.int8 else weight
        for name, weight in packed.items()
        if not name.endswith(SCALE)
    }
    out.mkdir(parents=True, exist_ok=True)
    whole = {name: weight.float().contiguous() for name, weight in weights.items()}
    (out / "model.safetensors").write_bytes(save(whole))
    write_json(out / "config.json", read_json(source / "config.json"))


def rows_of_bytes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A float tensor of two or more axes as int8 of its shape, and a float16 scale per row."""
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(1) / _LEVELS).clamp(min=_SMALLEST).half()
    steps = (rows / scale.float()[:, None]).round().clamp(-_LEVELS, _LEVELS)
    return steps.to(torch.int8).reshape(weight.shape), scale


def _read(folder: Path, cure: str) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise HproError(f"{path} cannot be read ({error}): {cure}") from error


def _matrix(steps: Tensor, scale: Tensor) -> Tensor:
    return (steps.flatten(1).float() * scale.float()[:, None]).reshape(steps.shape)
