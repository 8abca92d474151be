"""Output of corpus readers: one `Recording` or `Fault` per utterance, and checks of metadata."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import read_text

MAX_ID_BYTES = 150
"""Longest id of an utterance (ours). With the longest set name, a suffix and the addition of a
temporary file, the file name stays below the 255 bytes that file systems allow."""

MAX_SET_BYTES = 40
"""Longest name of a set."""

MIN_NAME_SIMILARITY = 0.8
"""Similarity (difflib's ratio, ours) from which an unknown column counts as a misspelling of an
absent known one."""


@dataclass(frozen=True)
class Recording:
    """One utterance of a corpus, as published; without a known group, its id is its group."""

    utterance: str  # id within the corpus
    speaker: str  # speaker name within the corpus
    text: str  # transcript as published
    audio: Path | bytes  # existing file, or the content of one
    group: str  # utterances of one group are in one split (the scene)
    split: str = ""  # split that the corpus prescribes, or empty
    emotion: str | None = None  # one of `EMOTIONS`, or None
    label: str = ""  # the corpus's own emotion label, or empty

    @property
    def place(self) -> str:
        """Location of the audio, for messages."""
        return printable(str(self.audio)) if isinstance(self.audio, Path) else "in the archive"


@dataclass(frozen=True)
class Fault:
    """The reason why an utterance that is listed or has audio cannot be used.

    Bytes of a file name that are not UTF-8 are written as \\xff in all three texts.
    """

    utterance: str  # id within the corpus
    reason: str  # short text; up to a colon it is the same for all faults of a kind
    where: str  # file, line or field if any, and the wrong value
    stops: bool = False  # an error of the metadata; a run stops at it before any audio is read
    left_out: bool = False  # outside the limits of duration, or perhaps of a speaker that is not
    # used; not counted as a fault of the corpus

    def __post_init__(self) -> None:
        for name in ("utterance", "reason", "where"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def kind(self) -> str:
        """The reason without the note after its colon."""
        return kind_of(self.reason)


def kind_of(reason: str) -> str:
    """Return a reason without the note after its colon."""
    return reason.partition(": ")[0]


def format_counts(reasons: Collection[str]) -> str:
    """Return reasons with their counts, most frequent first: "3 silent audio, 1 no audio file"."""
    kinds = Counter(map(kind_of, reasons))
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())


def printable(text: str) -> str:
    """Return a text that can be written as UTF-8: undecodable bytes of a name become \\xff."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a lone surrogate that is not from a file name
            return text.encode("utf-8", "backslashreplace").decode()
    return text


Rows = list[tuple[str, dict[str, str]]]
"""The rows of a table, each with the place to name in an error ("file, line 7")."""

_QUOTES = ': put a text with quotes in quotes and double its own: """Come in,"" he said."'


def metadata_rows(
    folder: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[Rows, list[Fault]]:
    """Return the rows of `folder`/metadata.csv, and faults of its header and unreadable rows.

    Args:
        folder: folder of the corpus.
        columns: required columns.
        optional: optional columns. A misspelling of an absent one is a fault.

    Raises:
        HproError: the folder or file is missing, it is not UTF-8 or has no rows, a column is
            missing, or a quote is not closed.
    """
    path = folder / "metadata.csv"
    text = read_text(path, "set the path of the corpus in params.yaml")
    names, rows, faults = csv_table(text, path)
    missing = [column for column in columns if column not in names]
    if missing:
        near = _similar_columns(names, missing)
        hints = "".join(
            f"; {name!r} resembles {known!r}: rename it" for name, known in near.items()
        )
        raise HproError(
            f"{path}: column {', '.join(map(repr, missing))} is missing; needed: "
            f"{', '.join(columns)}{hints}"
        )
    absent = [column for column in optional if column not in names]
    for name, known in _similar_columns(names, absent).items():
        where = f"{path}, line 1: column {name!r} resembles {known!r}: rename or remove it"
        faults.append(Fault(f"column {name}", "misspelt column", where, stops=True))
    if not rows and not faults:
        raise HproError(f"{path} lists no utterance")
    return rows, faults


def _similar_columns(names: Sequence[str], absent: Sequence[str]) -> dict[str, str]:
    """Column of a header -> the absent known column that it resembles."""
    found: dict[str, str] = {}
    for name in names:
        near = get_close_matches(name.strip().lower(), absent, n=1, cutoff=MIN_NAME_SIMILARITY)
        if near:
            found[name] = near[0]
    return found


def csv_table(text: str, path: Path) -> tuple[Sequence[str], Rows, list[Fault]]:
    """Return the header of a CSV file, its rows, and a fault for each row that cannot be read.

    A row cannot be read if its number of cells differs from the header's or a cell has a line
    break: a text that begins with an unclosed quote includes the lines after it.

    Raises:
        HproError: a quote is not closed, or the header has a name twice.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: Rows = []
    faults: list[Fault] = []
    try:
        names = reader.fieldnames or ()
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise HproError(f"{path}, line 1: column {twice[0]!r} is a duplicate: keep one")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if problem := _row_problem(row):
                name = f"line {reader.line_num}"
                faults.append(Fault(name, "malformed row", f"{where}: {problem}", stops=True))
            else:
                rows.append((where, row))
    except csv.Error as error:
        raise HproError(f"{path}, line {reader.line_num + 1}: {error}{_QUOTES}") from error
    return names, rows, faults


def _row_problem(row: dict[str, str]) -> str:
    if None in row or None in row.values():
        return "the row does not have as many cells as the header"
    over = [cell for cell in row.values() if "\n" in cell or "\r" in cell]
    return f"{over[0][:40]!r}.. spans several lines{_QUOTES}" if over else ""


def summary(faults: Sequence[Fault]) -> str:
    """Return the first fault and the number of others, for an error message."""
    more = f"; and {len(faults) - 1} more: `hpro corpus check` lists all" if faults[1:] else ""
    return f"{faults[0].where}{more}"


def audio_problem(folder: Path, name: str) -> str:
    """Return why a row's audio cannot be used (outside the folder, or missing); else empty."""
    if not is_inside(name):
        return f"audio {name!r} is not a path inside {folder}: use a relative path without .."
    path = folder / name
    return "" if os.path.isfile(path) else f"audio file {str(path)[:300]} does not exist"


def is_inside(name: str) -> bool:
    """Whether a path in metadata stays in the folder of the corpus.

    Symbolic links in the folder may point outside it.
    """
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts


def id_problem(name: str) -> str:
    """Return why an id is not usable as a file name; empty if it is."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return f"utterance {name!r}: use letters, digits, '_', '.' and '-' only"
    if len(name) > MAX_ID_BYTES:
        return f"utterance {name[:20]!r}.. has {len(name)} characters: {MAX_ID_BYTES} at most"
    return ""


def checked_rows(
    folder: Path,
    rows: Rows,
    id_column: str,
    filled: tuple[str, ...],
    others: Callable[[dict[str, str]], Iterable[tuple[str, str]]] = lambda row: (),
) -> Iterator[dict[str, str] | Fault]:
    """Yield each row of a metadata.csv, or a fault for each of its errors.

    Args:
        folder: folder of the corpus.
        rows: rows from `metadata_rows`, with a column `audio`.
        id_column: name of the column with the id.
        filled: columns that must not be empty.
        others: returns further errors of a row: kind and message.
    """
    seen: dict[str, str] = {}
    for place, row in rows:
        name, problems = row[id_column], []
        if problem := id_problem(name):
            problems.append(("invalid id", problem))
        elif name in seen:
            where = f"utterance {name!r} is a duplicate of {seen[name]}"
            problems.append(("duplicate id", where))
        seen.setdefault(name, place)
        empty = [column for column in filled if not row[column].strip()]
        problems += [("empty cell", f"{column} is empty") for column in empty]
        if problem := audio_problem(folder, row["audio"]):
            problems.append(("missing audio", problem))
        problems += others(row)
        for kind, says in problems:
            yield Fault(name or place, kind, f"{place}: {says}", stops=True)
        if not problems:
            yield row


def metadata_faults(entries: Sequence[Recording | Fault]) -> list[Fault]:
    """Return the faults at which a run stops before any audio is read.

    These are faults of metadata, ids that are not usable as file names, and duplicate ids.
    """
    found = [entry for entry in entries if isinstance(entry, Fault) and entry.stops]
    seen: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, Fault):
            continue
        name, place = entry.utterance, entry.place
        if problem := id_problem(name):
            found.append(Fault(name, "invalid id", f"{place}: {problem}", True))
        elif name in seen:
            where = f"{place}: utterance {name!r} is a duplicate of {seen[name]}"
            found.append(Fault(name, "duplicate id", where, True))
        seen.setdefault(name, place)
    return found
