"""Models on disk: weights as safetensors, sizes as JSON beside them, loaded strictly.

Also other projects' PyTorch files, read without running what may be in them.
"""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hpro_core.engine.files import fingerprint as fingerprint
from hpro_core.engine.files import read_json as read_json
from hpro_core.engine.files import write_json as write_json
from hpro_core.errors import HproError

BOOKKEEPING = ("epoch", "step")
"""What the trainers of CosyVoice and HD-Emo save beside the weights."""


def save_model(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Write model.safetensors and config.json, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    partial = folder / ".model.partial"
    partial.write_bytes(save(weights))  # save_file would leave a file that only its owner reads
    os.replace(partial, folder / "model.safetensors")
    write_json(folder / "config.json", config)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Give a model its weights.

    Raises:
        HproError: the file is missing or broken, or a weight is missing, unexpected or of another
            shape.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise HproError(f"{path} does not exist: run the stage that trains it first")
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:400]
        raise HproError(f"{path} does not fit its config.json: {detail}") from error


def read_pt(path: Path, origin: str) -> dict[str, Tensor]:
    """Weights by name from a PyTorch file of another project, without the bookkeeping.

    Args:
        path: of the file.
        origin: where a good one is from, for messages.

    Raises:
        HproError: the file is missing or broken, or holds anything but weights; nothing in it runs.
    """
    state = loaded_pt(path, origin, "save a plain state_dict()")
    if not isinstance(state, dict):
        raise HproError(f"{path} holds a {type(state).__name__}: save a plain state_dict()")
    weights = {name: value for name, value in state.items() if name not in BOOKKEEPING}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise HproError(f"{path}: {name!r} is no weight: save a plain state_dict()")
    return weights


def loaded_pt(path: Path, origin: str, otherwise: str) -> object:
    """What is in a PyTorch file of another project; nothing in it runs.

    Args:
        path: of the file.
        origin: where a good one is from, for messages.
        otherwise: what else helps where the file holds objects, for messages.

    Raises:
        HproError: the file is missing or broken, or holds objects that could run code.
    """
    if not path.is_file():
        raise HproError(f"{path} is not a file: get it from {origin}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError) as error:
        raise HproError(
            f"{path} is no PyTorch file or holds objects that could run code: get it from "
            f"{origin}, or {otherwise}"
        ) from error
    except (RuntimeError, OSError) as error:
        detail = " ".join(str(error).split())[:80]
        raise HproError(f"{path} is broken ({detail}): get it again from {origin}") from error
