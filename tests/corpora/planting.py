"""What the miniatures of published corpora share: short sounds, and faults to plant."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hpro_core.corpus.check import Contents, check
from hpro_core.params import Corpus, CorpusSet

LIMITS = Corpus(
    sets={"other": CorpusSet(reader="csv", path="")},
    min_duration_s=0.8,
    max_duration_s=9.0,
    max_rejected_fraction=1.0,
)


@dataclass(frozen=True)
class Planted:
    """A fault in a miniature.

    Attributes:
        name: says what is wrong.
        plant: changes the miniature in place.
        says: what `hpro corpus check` must say: reason and place of a fault, or words of the error.
        stops: whether the corpus as a whole cannot be read.
    """

    name: str
    plant: Callable[[Path], None]
    says: str
    stops: bool = False


def write_sound(
    path: Path,
    duration_s: float = 1.0,
    rate_hz: int = 16_000,
    channels: int = 1,
    subtype: str = "PCM_16",
) -> None:
    """A tone; the format is that of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_T = np.arange(round(duration_s * rate_hz)) / rate_hz
    tone_TC = np.repeat(0.3 * np.sin(2 * np.pi * 220 * time_T)[:, None], channels, axis=1)
    soundfile.write(path, tone_TC, rate_hz, subtype=subtype)


def cut(path: Path, share: float = 0.5) -> None:
    """Leave only the first part of a file, as an interrupted download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def link_folders(folder: Path, store: Path) -> None:
    """Put all folders in a folder elsewhere and leave links; one more link leads back up."""
    inner = sorted(path for path in folder.rglob("*") if path.is_dir())
    (inner[-1] / "again").symlink_to(inner[-1])
    store.mkdir()
    for number, path in enumerate(reversed(inner)):
        path.symlink_to(path.rename(store / str(number)))


def edit(path: Path, old: str, new: str, encoding: str = "utf-8") -> None:
    """Change a text file; `old` must be in it."""
    text = path.read_text(encoding=encoding)
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding=encoding)


def checked(folder: Path, reader: str = "") -> Contents:
    """What `hpro corpus check` finds."""
    return check(folder, LIMITS, reader)[1]
