"""The files of published models that label and judge, by name alone: without torch.

The Snakefile and preflight read them here.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

EMOTION2VEC = ("model.pt", "config.yaml", "tokens.txt")
HUGGING_FACE = ("config.json", "preprocessor_config.json")
"""Of a folder in Hugging Face format, beside its weights."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def hugging_face_weights(folder: Path) -> Path:
    """The weights in a folder in Hugging Face format: safetensors where there are both, or none."""
    there = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    return there[0] if there else folder / _WEIGHTS[0]


def hugging_face(folder: Path) -> Iterator[Path]:
    """All files of a folder in Hugging Face format."""
    yield from (folder / name for name in HUGGING_FACE)
    yield hugging_face_weights(folder)


def affect_models(chosen: Collection[str], emotion2vec: str, audeering: str) -> Iterator[Path]:
    """All files of the published models of affect, as teachers or as judges.

    Args:
        chosen: names of models; others than the two are passed over.
        emotion2vec: its folder.
        audeering: its folder.
    """
    if "emotion2vec" in chosen:
        yield from (Path(emotion2vec, name) for name in EMOTION2VEC)
    if "audeering" in chosen:
        yield from hugging_face(Path(audeering))
