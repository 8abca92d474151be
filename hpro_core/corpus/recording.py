"""What every reader hands over: one `Recording` per utterance, or the `Fault` in its place."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import read_text

MAX_ID_BYTES = 150
"""Longest id of an utterance (ours): with the longest name of a set before it, a suffix and what a
temporary file adds it is a file name, of which file systems allow 255 bytes."""

MAX_SET_BYTES = 40
"""Longest name of a set."""

NEARLY = 0.8
"""A column this like one that is known and absent is taken for a slip (difflib's ratio, ours)."""


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

    @property
    def place(self) -> str:
        """Where its audio is, for messages."""
        return printable(str(self.audio)) if isinstance(self.audio, Path) else "in the archive"


@dataclass(frozen=True)
class Fault:
    """Why an utterance that a corpus lists, or whose audio it has, cannot be used.

    Bytes of a file name that are not UTF-8 are written as \\xff in all three texts.

    Attributes:
        utterance: id within the corpus.
        reason: short, the same for all faults of a kind up to a colon.
        where: file, and line or field where there is one, with the value that is wrong.
        stops: the metadata has to be mended: a run stops at it before any audio is read.
        left_out: outside the limits of duration: no fault of the corpus, and not counted as one.
    """

    utterance: str
    reason: str
    where: str
    stops: bool = False
    left_out: bool = False

    def __post_init__(self) -> None:
        for name in ("utterance", "reason", "where"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def kind(self) -> str:
        """The reason without its own note behind a colon."""
        return kind_of(self.reason)


def kind_of(reason: str) -> str:
    """A reason without the note that one utterance has behind a colon."""
    return reason.partition(": ")[0]


def counted(reasons: Collection[str]) -> str:
    """Reasons by how often they occur: "3 silent audio, 1 no audio file"."""
    kinds = Counter(map(kind_of, reasons))
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())


def printable(text: str) -> str:
    """A text that can be written as UTF-8: what is no character of a file name becomes \\xff."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half of a pair that no file name made
            return text.encode("utf-8", "backslashreplace").decode()
    return text


Rows = list[tuple[str, dict[str, str]]]
"""The rows of a table, each with the place to name in an error ("file, line 7")."""

_QUOTES = ': a text with quotes stands in quotes, with its own twice: """Come in,"" he said."'


def metadata_rows(
    folder: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[Rows, list[Fault]]:
    """Rows of `folder`/metadata.csv, and what is wrong with its header and its other rows.

    Args:
        folder: of the corpus.
        columns: that it must have.
        optional: that it may have. A column that is nearly one of these, and not there, is a fault.

    Raises:
        HproError: no such folder or file, not UTF-8, no rows, a column is missing, or a quote that
            is not closed.
    """
    path = folder / "metadata.csv"
    text = read_text(path, "set the path of the corpus in params.yaml")
    names, rows, faults = csv_table(text, path)
    missing = [column for column in columns if column not in names]
    if missing:
        near = _nearly(names, missing)
        hints = "".join(
            f"; {name!r} is nearly {known!r}: rename it" for name, known in near.items()
        )
        raise HproError(
            f"{path}: column {', '.join(map(repr, missing))} is missing; needed: "
            f"{', '.join(columns)}{hints}"
        )
    absent = [column for column in optional if column not in names]
    for name, known in _nearly(names, absent).items():
        where = f"{path}, line 1: column {name!r} is nearly {known!r}: rename it, or take it out"
        faults.append(Fault(f"column {name}", "column that is nearly right", where, stops=True))
    if not rows and not faults:
        raise HproError(f"{path} lists no utterance")
    return rows, faults


def _nearly(names: Sequence[str], absent: Sequence[str]) -> dict[str, str]:
    """Column of a header -> the known and absent one that it is like."""
    found: dict[str, str] = {}
    for name in names:
        near = get_close_matches(name.strip().lower(), absent, n=1, cutoff=NEARLY)
        if near:
            found[name] = near[0]
    return found


def csv_rows(text: str, path: Path) -> tuple[Sequence[str], Rows]:
    """The header of a CSV file, and its rows; all that is wrong with rows in one error.

    Raises:
        HproError: as `csv_table`, or a row is not what the writer meant.
    """
    names, rows, faults = csv_table(text, path)
    if faults:
        raise HproError(summary(faults))
    return names, rows


def csv_table(text: str, path: Path) -> tuple[Sequence[str], Rows, list[Fault]]:
    """The header of a CSV file, its rows, and a fault for each row that cannot be read.

    A row cannot be read if it has fewer or more cells than the header, or a cell with a line break:
    a text that begins with a quote and does not close it takes in the lines after it.

    Raises:
        HproError: a quote is not closed, or a name stands twice in the header.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: Rows = []
    faults: list[Fault] = []
    try:
        names = reader.fieldnames or ()
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise HproError(f"{path}, line 1: column {twice[0]!r} stands twice: keep one")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if problem := _row_problem(row):
                name = f"line {reader.line_num}"
                faults.append(Fault(name, "row that is no row", f"{where}: {problem}", stops=True))
            else:
                rows.append((where, row))
    except csv.Error as error:
        raise HproError(f"{path}, line {reader.line_num + 1}: {error}{_QUOTES}") from error
    return names, rows, faults


def _row_problem(row: dict[str, str]) -> str:
    if None in row or None in row.values():
        return "the row does not have as many cells as the header"
    over = [cell for cell in row.values() if "\n" in cell or "\r" in cell]
    return f"{over[0][:40]!r}.. goes over several lines{_QUOTES}" if over else ""


def summary(faults: Sequence[Fault]) -> str:
    """The first fault, and how many more there are, for an error."""
    more = f"; and {len(faults) - 1} more: `hpro corpus check` names all" if faults[1:] else ""
    return f"{faults[0].where}{more}"


def audio_problem(folder: Path, name: str) -> str:
    """Why a row's audio cannot be taken: outside the folder, or not there; else empty."""
    if not inside(name):
        return f"audio {name!r} is not a path inside {folder}: name it from there, without .."
    path = folder / name
    return "" if is_there(path) else f"audio file {str(path)[:300]} does not exist"


def is_there(path: Path) -> bool:
    """Whether there is such a file; one whose name is too long for any file is not."""
    try:
        return path.is_file()
    except OSError:
        return False


def inside(name: str) -> bool:
    """Whether a path that metadata names stays in the folder of the corpus.

    Links in the folder are its owner's: they may lead out.
    """
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts


def id_problem(name: str) -> str:
    """Why an id cannot name a file; empty if it can."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return f"utterance {name!r}: use letters, digits, '_', '.' and '-' only"
    if len(name) > MAX_ID_BYTES:
        return f"utterance {name[:20]!r}.. has {len(name)} letters: {MAX_ID_BYTES} at most"
    return ""


def row_problems(
    folder: Path,
    place: str,
    row: dict[str, str],
    id_column: str,
    filled: tuple[str, ...],
    seen: dict[str, str],
) -> Iterator[tuple[str, str]]:
    """What is wrong with a row of metadata.csv: the kind, and what to say.

    Args:
        folder: of the corpus.
        place: of the row.
        row: its cells.
        id_column: has the id.
        filled: columns that may not be empty.
        seen: ids and places of the rows before; this one's is added.
    """
    name = row[id_column]
    if problem := id_problem(name):
        yield "id that cannot be a file name", problem
    elif name in seen:
        yield "duplicate id", f"utterance {name!r} is a duplicate of {seen[name]}"
    seen.setdefault(name, place)
    for column in filled:
        if not row[column].strip():
            yield "cell that is empty", f"{column} is empty"
    if problem := audio_problem(folder, row["audio"]):
        yield "audio that is not there", problem


def refused(entries: Sequence[Recording | Fault]) -> list[Fault]:
    """What a run stops at before any audio is read.

    Faults of metadata, ids that cannot name a file, and ids that two recordings have.
    """
    found = [entry for entry in entries if isinstance(entry, Fault) and entry.stops]
    seen: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, Fault):
            continue
        name, place = entry.utterance, entry.place
        if problem := id_problem(name):
            found.append(Fault(name, "id that cannot be a file name", f"{place}: {problem}", True))
        elif name in seen:
            where = f"{place}: utterance {name!r} is a duplicate of {seen[name]}"
            found.append(Fault(name, "duplicate id", where, True))
        seen.setdefault(name, place)
    return found
