"""What every reader hands over: one `Recording` per utterance, or the `Fault` in its place."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError


@dataclass(frozen=True)
class Recording:
    """One utterance of a corpus, as published.

    Attributes:
        utterance: id within the corpus.
        audio: existing file, or the content of one.
        group: what may not straddle splits (the scene); the utterance itself where none is known.
        split: split that the corpus prescribes, or empty.
        emotion: one of `EMOTIONS`, or None.
        label: the emotion as the corpus itself has it, or empty.
    """

    utterance: str
    speaker: str
    text: str
    audio: Path | bytes
    group: str
    split: str = ""
    emotion: str | None = None
    label: str = ""


@dataclass(frozen=True)
class Fault:
    """Why an utterance that a corpus lists, or whose audio it has, cannot be read.

    Attributes:
        utterance: id within the corpus.
        reason: short, the same for all faults of a kind.
        where: file, and line or field where there is one, with the value that is wrong.
    """

    utterance: str
    reason: str
    where: str


_QUOTES = ': a text with quotes stands in quotes, with its own twice: """Come in,"" he said."'


def metadata_rows(folder: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Rows of `folder`/metadata.csv, each with the place to name in an error ("file, line 7").

    Raises:
        HproError: no such folder or file, not UTF-8, no rows, a column is missing, or a row has
            fewer or more cells than the header, a quote that is not closed, or a line break.
    """
    path = folder / "metadata.csv"
    if not path.is_file():
        raise HproError(f"{path} does not exist: set the path of the corpus in params.yaml")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HproError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    names, rows = csv_rows(text, path)
    for column in columns:
        if column not in names:
            raise HproError(f"{path}: column {column!r} is missing; needed: {', '.join(columns)}")
    if not rows:
        raise HproError(f"{path} lists no utterance")
    return rows


def csv_rows(text: str, path: Path) -> tuple[Sequence[str], list[tuple[str, dict[str, str]]]]:
    """The header of a CSV file, and its rows, each with the place to name in an error.

    Raises:
        HproError: a row has fewer or more cells than the header, or is not what the writer meant: a
            text that begins with a quote and does not close it takes in the lines after it.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            rows.append((f"{path}, line {reader.line_num}", row))
    except csv.Error as error:
        raise HproError(f"{path}, line {reader.line_num + 1}: {error}{_QUOTES}") from error
    for where, row in rows:
        if None in row or None in row.values():
            raise HproError(f"{where}: the row does not have as many cells as the header")
        if over := [cell for cell in row.values() if "\n" in cell or "\r" in cell]:
            raise HproError(f"{where}: {over[0][:40]!r}.. goes over several lines{_QUOTES}")
    return reader.fieldnames or (), rows


def checked_audio(folder: Path, name: str, where: str) -> Path:
    """The audio file that a row names, inside the corpus folder.

    Raises:
        HproError: the path leaves the folder, or no such file.
    """
    path = folder / name
    if not inside(name):
        raise HproError(
            f"{where}: audio {name!r} is not a path inside {folder}: name it from there, without .."
        )
    if not path.is_file():
        raise HproError(f"{where}: audio file {path} does not exist")
    return path


def inside(name: str) -> bool:
    """Whether a path that metadata names stays in the folder of the corpus.

    Links in the folder are its owner's: they may lead out.
    """
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts


def checked_id(name: str, seen: set[str], where: str) -> str:
    """An utterance id that can name a file and was not seen before; it is added to `seen`.

    Raises:
        HproError: the id is a duplicate or holds other signs than letters, digits, `_`, `.`, `-`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise HproError(f"{where}: utterance {name!r}: use letters, digits, '_', '.' and '-' only")
    if name in seen:
        raise HproError(f"{where}: utterance {name!r} is a duplicate: ids must be unique")
    seen.add(name)
    return name


def checked_name(row: dict[str, str], column: str, where: str) -> str:
    """A cell that may not be empty.

    Raises:
        HproError: it is.
    """
    value = row[column].strip()
    if not value:
        raise HproError(f"{where}: {column} is empty")
    return value
