"""Description of a published corpus, and helpers that readers share."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpro_core.corpus.recording import Fault, Recording, Rows, csv_table, summary
from hpro_core.corpus.walk import folders
from hpro_core.errors import HproError
from hpro_core.io import read_text

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a Git LFS pointer, which stands for a large file that was not fetched."""


@dataclass(frozen=True)
class CorpusInfo:
    """Description of a corpus; one without labels has no emotions."""

    title: str  # name, authors and year
    licence: str  # name of the licence and its restrictions
    source: str  # where to get it, and which archives
    patterns: tuple[
        str, ...
    ]  # glob patterns relative to the folder; one match identifies the corpus
    emotions: Mapping[str, str] = field(default_factory=dict)  # label -> one of `EMOTIONS`


class Reader(Protocol):
    """A module of this package."""

    INFO: CorpusInfo

    def read(self, folder: Path, /) -> Iterator[Recording | Fault]:
        """Yield a `Recording` or `Fault` for each utterance; see the package's docstring."""


def text_of(path: Path, encoding: str = "utf-8-sig") -> str:
    """Return the text of a file with line breaks as "\\n".

    Raises:
        HproError: the file is missing or not in the encoding.
    """
    text = read_text(path, "extract the whole archive", encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def table_rows(path: Path, *columns: str) -> Rows:
    """Return the rows of a CSV file, each with its place ("file, line 7").

    Raises:
        HproError: the file is missing, not UTF-8 or has no rows, a column is missing, a row
            cannot be read, or as `csv_table`.
    """
    names, rows, faults = csv_table(text_of(path), path)
    if faults:
        raise HproError(summary(faults))
    if not rows or not set(columns) <= set(names):
        raise HproError(f"{path}: rows with the columns {', '.join(columns)} are required")
    return rows


def audio_files(folder: Path, *patterns: str) -> list[Path]:
    """Return files below a folder, sorted by path, without hidden files such as macOS's ._name.

    Patterns are those of `Path.glob`, except that `**/` follows links to folders.
    """
    found = {path for pattern in patterns for path in _matches(folder, pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("."))


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    above, deep, below = pattern.rpartition("**/")
    names = (name for name, _ in folders(folder / above)) if deep else [""]
    return (path for name in names for path in (folder / above / name).glob(below))


def safe_id(name: str) -> str:
    """Return a published name as an utterance id: characters other than A-Za-z0-9_.- become `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
