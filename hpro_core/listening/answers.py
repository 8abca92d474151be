"""Answers of raters: the CSV and JSON files that the page saves, checked against the design."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError
from hpro_core.io import csv_lines, read_json, read_text
from hpro_core.listening.design import FORMAT, Design, Part

COLUMNS = ("test", "rater", "session", "trial", "part", "clip", "clip_b", "answer", "plays",
           "seconds")  # fmt: skip
"""Columns of the CSV file."""

SUFFIXES = (".csv", ".json")

_KEYS = COLUMNS[3:]
_HINT = "give the CSV or JSON file that the page saved"
_ANSWERS: dict[str, tuple[str, ...]] = {
    "naturalness": ("1", "2", "3", "4", "5"),
    "emotion": ("1", "2", "3", "4", "5"),
    "preference": ("a", "none", "b"),
}


@dataclass(frozen=True)
class Answer:
    """One answer: 1 to 5 in a rating, a, none or b in a preference; plays of the clips, time."""

    answer: str
    plays: int
    seconds: float


@dataclass(frozen=True)
class Session:
    """The answers of a rater, in the order of the trials.

    Attributes:
        path: file.
        rater: number of the rater.
        session: random id, new for each start of a test.
        answers: of the first trials; complete if of all.
    """

    path: Path
    rater: int
    session: str
    answers: tuple[Answer, ...]


def read_sessions(paths: Sequence[Path], design: Design) -> tuple[list[Session], list[str]]:
    """Read files, and all CSV and JSON files of folders.

    Args:
        paths: files and folders.
        design: the test.

    Returns:
        The sessions by rater, and a note on each file that is a copy of another.

    Raises:
        HproError: a file is not one of this test, was changed, or has other answers of a rater than
            another file. The message names the files.
    """
    found: dict[int, Session] = {}
    copies = []
    for path in _files(paths):
        session = read_session(path, design)
        known = found.get(session.rater)
        if known is None:
            found[session.rater] = session
        elif (known.session, known.answers) == (session.session, session.answers):
            copies.append(f"{path} has the same answers as {known.path}: used once")
        else:
            raise HproError(
                f"{known.path} and {path} have different answers of rater {session.rater}: remove "
                "one of them"
            )
    return [found[rater] for rater in sorted(found)], copies


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not os.path.lexists(path):
            raise HproError(f"{path} does not exist: name files of answers, or folders of them")
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
        except OSError as error:
            raise HproError(f"{path} cannot be read ({error.strerror}): name a folder") from error
        if foreign := [name for name in names if not name.lower().endswith(SUFFIXES)]:
            raise HproError(f"{path / foreign[0]} is no file of answers: {_HINT}, or remove it")
        files += [path / name for name in names]
    if not files:
        raise HproError(f"{', '.join(map(str, paths))}: no file of answers: {_HINT}")
    known: dict[str, Path] = {}
    for path in files:
        real = os.path.realpath(path)
        if real in known:
            raise HproError(f"{path} is given twice")
        known[real] = path
    return files


def read_session(path: Path, design: Design) -> Session:
    """Read one file of answers.

    Raises:
        HproError: it is not of this test, or a value is wrong; the message names the place.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise HproError(f"{path} is no file of answers: {_HINT}")
    about, rows = _read_csv(path) if suffix == ".csv" else _read_json(path)
    if about["test"] != design.test:
        raise HproError(
            f"{path} is of the test {str(about['test'])[:40]!r}, not of {design.test!r}: give the "
            "design.json of that test, or remove the file"
        )
    rater = _whole(about["rater"], f"{path}, rater")
    if not 1 <= rater <= 9999:
        raise HproError(f"{path}: the rater {rater} is not from 1 to 9999: {_HINT}")
    session = about["session"]
    if not isinstance(session, str) or not re.fullmatch(r"[0-9a-f]{16}", session):
        raise HproError(f"{path}: the session {str(session)[:40]!r} is no id: {_HINT}")
    trials = design.trials_of(rater)
    if len(rows) > len(trials):
        raise HproError(
            f"{path} has {len(rows)} answers, but rater {rater} has {len(trials)} trials: {_HINT}"
        )
    answered = zip(rows, trials[: len(rows)], strict=True)
    answers = tuple(
        _answer(where, row, number, *trial)
        for number, ((where, row), trial) in enumerate(answered, start=1)
    )
    return Session(path, rater, session, answers)


Rows = list[tuple[str, dict[str, Any]]]


def _read_csv(path: Path) -> tuple[dict[str, Any], Rows]:
    lines = list(csv_lines(read_text(path, _HINT), str(path)))
    if not lines or tuple(lines[0][1]) != COLUMNS:
        raise HproError(f"{path}, line 1: the columns are not {','.join(COLUMNS)}: {_HINT}")
    if len(lines) == 1:
        raise HproError(f"{path} has no answers: {_HINT}")
    rows = [
        (f"{path}, line {line}", dict(zip(COLUMNS, cells, strict=True)))
        for line, cells in lines[1:]
    ]
    about = {name: rows[0][1][name] for name in ("test", "rater", "session")}
    for where, row in rows:
        if any(row[name] != value for name, value in about.items()):
            raise HproError(f"{where}: test, rater or session differs from the first row: {_HINT}")
    return about, rows


def _read_json(path: Path) -> tuple[dict[str, Any], Rows]:
    content = read_json(path, _HINT)
    rows = content.get("answers")
    if content.get("format") != FORMAT or not isinstance(rows, list):
        raise HproError(f"{path} is no file of answers of this version: {_HINT}")
    if missing := [name for name in ("test", "rater", "session") if name not in content]:
        raise HproError(f"{path}: {missing[0]} is missing: {_HINT}")
    if not rows:
        raise HproError(f"{path} has no answers: {_HINT}")
    placed = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or set(row) != set(_KEYS):
            raise HproError(
                f"{path}, answer {number}: its keys are not {', '.join(_KEYS)}: {_HINT}"
            )
        placed.append((f"{path}, answer {number}", row))
    return content, placed


def _answer(where: str, row: dict[str, Any], number: int, part: Part, clips: list[str]) -> Answer:
    """Check a row against its trial."""
    expected = {"trial": number, "part": part, "clip": clips[0], "clip_b": "".join(clips[1:])}
    for name, value in expected.items():
        if str(row[name]) != str(value):
            raise HproError(
                f"{where}: {name} is {str(row[name])[:40]!r}, but {value!r} in the design, so "
                f"the file was changed: {_HINT}"
            )
    if row["answer"] not in _ANSWERS[part]:
        raise HproError(
            f"{where}: the answer {str(row['answer'])[:40]!r} is not one of "
            f"{', '.join(_ANSWERS[part])}: {_HINT}"
        )
    return Answer(
        row["answer"], _whole(row["plays"], f"{where}: plays"), _seconds(row["seconds"], where)
    )


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise HproError(f"{where}: {str(value)[:40]!r} is not a whole number: {_HINT}")
    return int(str(value))


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", str(value)):
        raise HproError(f"{where}: seconds: {str(value)[:40]!r} is not a time: {_HINT}")
    return float(str(value))
