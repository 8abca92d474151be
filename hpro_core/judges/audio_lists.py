"""Lists of sentences that a system has spoken: CSV, seed-tts-eval's meta.lst, EmergentTTS-Eval.

A list names each sentence by the stem of its audio file. Paths in a list are relative to its
folder.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from hpro_core.corpus.sentence_csv import sentence_rows
from hpro_core.errors import HproError
from hpro_core.io import parquet_errors, read_text
from hpro_core.synthesis.external import SUFFIXES
from hpro_core.text.normalise import transcript_problem

REQUIRED = ("utterance", "text")
OPTIONAL = ("reference", "recording", "test_set", "emotion")
"""Columns of a CSV list."""

EMERGENT = ("category", "text_to_synthesize")
"""Columns of EmergentTTS-Eval's list that are read."""

META_FIELDS = (2, 3, 4, 5)
"""Numbers of fields that seed-tts-eval's own scripts accept in a line of meta.lst."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHOWN = 80


@dataclass(frozen=True)
class ListedSentence:
    """A sentence of a list.

    Attributes:
        utt_id: stem of the audio file.
        text: what is to be spoken.
        test_set: part of the list that metrics are averaged over.
        reference: recording of the voice (the prompt), or None.
        recording: the same sentence as spoken by a person, or None.
        where: file and line, for messages.
        emotion: intended emotion, or empty; only `hpro listen` uses it.
    """

    utt_id: str
    text: str
    test_set: str
    reference: Path | None
    recording: Path | None
    where: str
    emotion: str = ""

    @property
    def problem(self) -> str:
        """Why the text cannot be judged (no words, unsupported characters); empty if it can."""
        return transcript_problem(self.text)


def read_list(path: Path) -> list[ListedSentence]:
    """Read a list of sentences.

    The suffix determines the format:

    - `.csv`: the columns REQUIRED and any of OPTIONAL.
    - `.lst`: seed-tts-eval's meta.lst, fields separated by `|`: id, text; or id, text, prompt; or
      id, text of the prompt, prompt, text, and optionally the recording of the text.
    - `.jsonl` or `.parquet`: EmergentTTS-Eval as it is published, with the columns EMERGENT. The id
      of a sentence is its place in the whole list, from 0; its category is the test set.

    A sentence without `test_set` belongs to the test set named as the folder of the list.

    Raises:
        HproError: the list is unreadable or empty, or an id is invalid or a duplicate; the message
            names the line.
    """
    readers = {
        ".csv": _read_csv, ".lst": _read_meta, ".jsonl": _read_jsonl, ".parquet": _read_parquet
    }  # fmt: skip
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise HproError(f"{path}: a list ends in {', '.join(readers)}")
    sentences = readers[suffix](path)
    if not sentences:
        raise HproError(f"{path} has no sentence")
    for sentence in sentences:
        _check(sentence)
    utt_id, n = Counter(sentence.utt_id for sentence in sentences).most_common(1)[0]
    if n > 1:
        second = [s.where for s in sentences if s.utt_id == utt_id][1]
        raise HproError(f"{second}: the id {utt_id!r} is a duplicate")
    return sentences


def find_list(folder: Path) -> Path:
    """Return the only list in a folder: *.csv, *.lst, *.jsonl or *.parquet.

    Raises:
        HproError: there is none, or several.
    """
    found = sorted(
        path for end in ("csv", "lst", "jsonl", "parquet") for path in folder.glob(f"*.{end}")
    )
    if len(found) != 1:
        n = "several lists" if found else "no list (*.csv, *.lst, *.jsonl or *.parquet)"
        raise HproError(f"{folder} has {n}: name the list of the sentences, --list FILE")
    return found[0]


def _check(sentence: ListedSentence) -> None:
    if not _ID.fullmatch(sentence.utt_id):
        raise HproError(
            f"{sentence.where}: the id {sentence.utt_id[:_SHOWN]!r} is not usable: letters, "
            "digits, '_', '.' and '-' only, a letter or digit first"
        )
    if not _ID.fullmatch(sentence.test_set):
        raise HproError(
            f"{sentence.where}: the test set {sentence.test_set[:_SHOWN]!r} is not usable: "
            "letters, digits, '_', '.' and '-' only, a letter or digit first"
        )


def set_name(path: Path) -> str:
    """Return the name of the test set of a list: its folder, with '_' for unusable characters."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.resolve().parent.name).lstrip("_.-")
    return name or "list"


def _read_csv(path: Path) -> list[ListedSentence]:
    hint = "separate columns by commas, and write their names in lower case"
    rows = sentence_rows(path, REQUIRED, OPTIONAL, hint)
    return [
        ListedSentence(
            utt_id=row["utterance"].removesuffix(".wav"),
            text=row["text"],
            test_set=row.get("test_set") or set_name(path),
            reference=_path(path, row.get("reference", "")),
            recording=_path(path, row.get("recording", "")),
            where=where,
            emotion=row.get("emotion", ""),
        )
        for where, row in rows
    ]


def _read_meta(path: Path) -> list[ListedSentence]:
    sentences = []
    lines = read_text(path, "name a list of sentences").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells, where = [cell.strip() for cell in line.split("|")], f"{path}, line {number}"
        if len(cells) not in META_FIELDS:
            raise HproError(
                f"{where}: {len(cells)} fields, but a line of meta.lst has 2 to 5: id|text of the "
                "prompt|prompt|text|recording"
            )
        text, prompt, recording = cells[1], "", ""
        if len(cells) == 3:
            prompt = cells[2]
        elif len(cells) > 3:
            prompt, text = cells[2:4]
            recording = "".join(cells[4:])
        if prompt and Path(prompt).suffix.lower() not in SUFFIXES:
            raise HproError(
                f"{where}: the third field, {prompt[:_SHOWN]!r}, is not an audio file: write "
                "id|text, id|text|prompt, or id|text of the prompt|prompt|text|recording; a text "
                "must not contain '|'"
            )
        sentences.append(
            ListedSentence(
                cells[0].removesuffix(".wav"),
                text,
                set_name(path),
                _path(path, prompt),
                _path(path, recording),
                where,
            )
        )
    return sentences


def _read_jsonl(path: Path) -> list[ListedSentence]:
    rows = []
    lines = read_text(path, "get it again").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError, ValueError) as error:
            raise HproError(f"{path}, line {number}: not JSON: get the file again") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(k), str) for k in EMERGENT):
            raise HproError(f"{path}, line {number}: {' or '.join(EMERGENT)} is missing")
        rows.append((f"{path}, line {number}", row))
    return _emergent(rows)


def _read_parquet(path: Path) -> list[ListedSentence]:
    with parquet_errors(path, "get the list again"):
        names = pq.read_schema(path).names
        if missing := [name for name in EMERGENT if name not in names]:
            raise HproError(f"{path}: column {missing[0]!r} is missing")
        rows = pq.read_table(path, columns=list(EMERGENT)).to_pylist()
    if wrong := [n for n, row in enumerate(rows) if not all(type(v) is str for v in row.values())]:
        raise HproError(f"{path}, row {wrong[0]}: {' or '.join(EMERGENT)} is not a text")
    return _emergent([(f"{path}, row {number}", row) for number, row in enumerate(rows)])


def _emergent(rows: Sequence[tuple[str, dict[str, str]]]) -> list[ListedSentence]:
    return [
        ListedSentence(
            utt_id=str(index),
            text=row["text_to_synthesize"].strip(),
            test_set=re.sub(r"\s+", "_", row["category"].strip()),
            reference=None,
            recording=None,
            where=where,
        )
        for index, (where, row) in enumerate(rows)
    ]


def _path(path: Path, cell: str) -> Path | None:
    cell = cell.strip()
    if "\0" in cell:
        raise HproError(f"{path}: a path has a null character: remove it")
    return path.parent / cell if cell else None


def named_folders(given: Sequence[str]) -> dict[str, Path]:
    """Parse folders of the form FOLDER or NAME=FOLDER: name of the system -> folder.

    Without a name, the system is named as its folder.

    Raises:
        HproError: a name is not usable or a duplicate, or a folder is missing.
    """
    found: dict[str, Path] = {}
    for text in given:
        if not text.strip():
            raise HproError("--audio is empty: give FOLDER or NAME=FOLDER")
        before, _, after = text.partition("=")
        folder = Path(text) if not after or os.path.isdir(text) else Path(after)
        name = folder.resolve().name if folder == Path(text) else before
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise HproError(
                f"--audio {text}: {name!r} is not usable as the name of a system (letters, digits, "
                "'_', '-'): give NAME=FOLDER"
            )
        if name in found:
            raise HproError(f"--audio {text}: the name {name!r} is a duplicate: give NAME=FOLDER")
        if not os.path.isdir(folder):
            raise HproError(
                f"{folder} is not a folder: name the folder of the system's audio files"
            )
        found[name] = folder
    return found
