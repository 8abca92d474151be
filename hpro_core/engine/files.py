"""JSON files and hashes of files, without torch, so that tables and the report start quickly."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError


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
    """Hash of the contents of files: what a training depends on, so that only it is resumed.

    Raises:
        HproError: a file is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise HproError(
                f"{path} does not exist: run the stage that makes it first, or mend the path of a "
                "model in the settings"
            )
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
