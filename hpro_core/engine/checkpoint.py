"""Models on disk: weights as safetensors, sizes as JSON beside them, loaded strictly."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from hpro_core.errors import HproError


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        HproError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HproError(f"{path} does not exist: run the stage that makes it first") from error
    except json.JSONDecodeError as error:
        raise HproError(f"{path} is not JSON: {error}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def fingerprint(*paths: Path) -> str:
    """Hash of the contents of files: what a training depends on, so that only it is resumed."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
