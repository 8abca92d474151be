"""The files of the published teachers: read by the Snakefile and by preflight, so without torch."""

from pathlib import Path

EMOTION2VEC = ("model.pt", "config.yaml", "tokens.txt")
AUDEERING = ("config.json", "preprocessor_config.json")
"""Beside its weights."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def audeering_weights(folder: Path) -> Path:
    """The weights in a folder in Hugging Face format: safetensors where there are both, or none."""
    there = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    return there[0] if there else folder / _WEIGHTS[0]
