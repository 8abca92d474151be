"""File names of the published models for labels and judges.

The module does not import torch, because the Snakefile and preflight import it.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

EMOTION2VEC = ("model.pt", "config.yaml", "tokens.txt")
HUGGING_FACE = ("config.json", "preprocessor_config.json")
"""Files of a folder in Hugging Face format besides its weights."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def hugging_face_weights(folder: Path) -> Path:
    """Return the weights path of a Hugging Face folder; safetensors if both or none exist."""
    there = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    return there[0] if there else folder / _WEIGHTS[0]


def hugging_face(folder: Path) -> Iterator[Path]:
    """Yield all files of a folder in Hugging Face format."""
    yield from (folder / name for name in HUGGING_FACE)
    yield hugging_face_weights(folder)


def affect_models(chosen: Collection[str], emotion2vec: str, audeering: str) -> Iterator[Path]:
    """Yield all files of the published affect models that are used as teachers or judges.

    `chosen` may have other names than emotion2vec and audeering; the other arguments are folders.
    """
    if "emotion2vec" in chosen:
        yield from (Path(emotion2vec, name) for name in EMOTION2VEC)
    if "audeering" in chosen:
        yield from hugging_face(Path(audeering))
