"""What a reader says of its corpus, and what readers share."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpro_core.corpus.recording import Fault, Recording, csv_rows
from hpro_core.corpus.walk import folders
from hpro_core.errors import HproError
from hpro_core.io import read_text

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the stand-in begins that git leaves where a large file was not fetched."""


@dataclass(frozen=True)
class About:
    """A published corpus.

    Attributes:
        title: its name, authors and year.
        licence: name of the licence, with what it forbids.
        source: where and how to get it, and which archives.
        signs: glob patterns below the folder; one match tells the corpus from all others.
        emotions: its labels -> `EMOTIONS`; empty where it has none.
    """

    title: str
    licence: str
    source: str
    signs: tuple[str, ...]
    emotions: Mapping[str, str] = field(default_factory=dict)


class Reader(Protocol):
    """A module of this package."""

    ABOUT: About

    def read(self, folder: Path, /) -> Iterator[Recording | Fault]:
        """See the package's docstring."""


def text_of(path: Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file.

    Raises:
        HproError: no such file, or it is not in that encoding.
    """
    text = read_text(path, "extract the whole archive", encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def table_rows(path: Path, *columns: str) -> list[tuple[str, dict[str, str]]]:
    """Rows of a CSV file, each with its place ("file, line 7").

    Raises:
        HproError: no such file, not UTF-8, no rows, a column is missing, or what `csv_rows` raises.
    """
    names, rows = csv_rows(text_of(path), path)
    if not rows or not set(columns) <= set(names):
        raise HproError(f"{path}: needed are rows with the columns {', '.join(columns)}")
    return rows


def audio_files(folder: Path, *patterns: str) -> list[Path]:
    """Files below a folder in order of their paths, without the traces of macOS (._name).

    Args:
        folder: where to look.
        patterns: of `Path.glob`, whose `**/` leaves out links to folders; here it follows them.
    """
    found = {path for pattern in patterns for path in _matches(folder, pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("."))


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    above, deep, below = pattern.rpartition("**/")
    names = (name for name, _ in folders(folder / above)) if deep else [""]
    return (path for name in names for path in (folder / above / name).glob(below))


def safe_id(name: str) -> str:
    """A published name as an utterance id: signs that no file name should have become `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
