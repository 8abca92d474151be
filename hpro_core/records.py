"""Provenance records of a run: command, inputs and outputs with their SHA-256.

Each command that writes into a results folder writes `record_<command>.json` beside its outputs.
`verify` compares records and files in both directions. Snakemake compares modification times and
does not detect replaced or corrupted files.

The files of an `audio/` folder are listed in the `audio.sha256` beside it, and records name that
list. The record of the files of `tables/metrics/` is in `tables/`: DVC reads all files of that
folder as metrics.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError, one_line
from hpro_core.io import JOURNAL, read_json, read_text, sha256_of, write_json

PREFIX = "record_"
"""Prefix of a record's file name."""

SUMS = "audio.sha256"
_SETTINGS = "params"  # folder of key files, by which Snakemake tracks settings
_METRICS = re.compile(r"(tables(?:_all)?)/metrics/")


def write(root: Path, command: str, arguments: Sequence[str]) -> None:
    """Write the records of the files in a results folder that this process has written."""
    root_path = root.resolve()
    made = _below(root_path, JOURNAL.written)
    inputs = {
        name: sha256_of(path)
        for name, path in sorted(_below(root_path, JOURNAL.read).items())
        if name not in made and not name.startswith(f"{_SETTINGS}/")
    }
    folders: dict[str, dict[str, str]] = {}
    for name, path in sorted(made.items()):
        folders.setdefault(_folder_of_record(name), {})[name] = sha256_of(path)
    about = {"command": command, "arguments": list(arguments), "from": inputs}
    for folder, files in folders.items():
        write_json(root_path / folder / f"{PREFIX}{command}.json", {**about, "made": files})


def _folder_of_record(name: str) -> str:
    """Folder, relative to the results folder, with the record of a file."""
    inside = _METRICS.match(name)
    return inside[1] if inside else Path(name).parent.as_posix()


def _below(root: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Name relative to a folder -> path, for the existing files inside it."""
    resolved = {path.resolve() for path in paths}
    return {
        path.relative_to(root).as_posix(): path
        for path in resolved
        if path.is_relative_to(root) and path.is_file() and not path.name.startswith(PREFIX)
    }


def verify(root: Path) -> tuple[int, list[str]]:
    """Compare a results folder with its records.

    Returns:
        The number of compared files, and one line for each contradiction.

    Raises:
        HproError: the folder is missing or has no record.
    """
    if not root.is_dir():
        raise HproError(f"{root} is not a folder: name the results of a run")
    records = {path: _read(path) for path in sorted(root.rglob(f"{PREFIX}*.json"))}
    if not records:
        raise HproError(f"{root} has no record ({PREFIX}*.json): run the workflow first")
    found = _Found(root)
    problems: list[str] = []
    for path, record in records.items():
        problems += _misplaced(root, path, record)
    problems += _changed(found, records)
    problems += _outdated(found, records)
    for sums in sorted(root.rglob(SUMS)):
        problems += _audio(found, sums)
    problems += _unnamed(root, records)
    return len(found.sums), [one_line(problem) for problem in problems]


def check(root: Path, path: Path, system: str, seed: int) -> None:
    """Refuse a file of a command that belongs to another system or seed, or was changed.

    Raises:
        HproError: no record beside the file names it, the record names another system or seed, or
            the file's hash differs from the record.
    """
    name = path.resolve().relative_to(root.resolve()).as_posix()
    for record_path in sorted(path.parent.glob(f"{PREFIX}*.json")):
        record = _read(record_path)
        if name not in record["made"]:
            continue
        given = record["arguments"]
        if given[:1] != [system] or _option(given, "--seed") != str(seed):
            break
        if record["made"][name] != sha256_of(path):
            raise HproError(
                f"{path} was changed after {record_path.name} was written: {_again(record_path)}"
            )
        return
    raise HproError(
        f"{path} is not of {system}, seed {seed}, according to the records beside it: "
        f"{_again(path)}"
    )


class _Found:
    """Hashes of files, each computed once."""

    def __init__(self, root: Path):
        self.root = root
        self.sums: dict[str, str | None] = {}

    def sum_of(self, name: str) -> str | None:
        """SHA-256 of a file of the run; None if it is missing."""
        if name not in self.sums:
            path = self.root / name
            there = os.path.isfile(path)  # False for a name that is too long for any file
            self.sums[name] = sha256_of(path) if there else None
        return self.sums[name]


def _read(path: Path) -> dict[str, Any]:
    hint = _again(path)
    record = read_json(path, hint)
    words, sums = record.get("arguments"), (record.get("made"), record.get("from"))
    if (
        not all(isinstance(files, dict) and all(map(_is_sum, files.items())) for files in sums)
        or not isinstance(words, list)
        or not all(isinstance(word, str) for word in [record.get("command"), *words])
    ):
        raise HproError(f"{path} is not a record of this version: {hint}")
    return record


def _is_sum(entry: tuple[str, object]) -> bool:
    """Whether an entry is a relative path inside the folder, and a SHA-256."""
    name, digest = entry
    return _is_inside(name) and isinstance(digest, str)


def _is_inside(name: str) -> bool:
    path = Path(name)
    return (
        "\0" not in name and bool(path.name) and not path.is_absolute() and ".." not in path.parts
    )


def _misplaced(root: Path, path: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line if a record's files are in another folder: it was moved."""
    folder = path.parent.relative_to(root).as_posix()
    for name in record["made"]:
        if (recorded := _folder_of_record(name)) != folder:
            yield f"{path}: is the record of {recorded}, not of {folder}: {_again(path)}"
            return


def _changed(found: _Found, records: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each file that is missing or differs from its record."""
    made: dict[str, list[tuple[str, Path]]] = {}
    for path, record in records.items():
        for name, digest in record["made"].items():
            made.setdefault(name, []).append((digest, path))
    for name, entries in made.items():
        current = found.sum_of(name)
        if current is None:
            yield f"{found.root / name}: is missing: {_again(entries[0][1])}"
        elif current not in [digest for digest, _ in entries]:
            yield f"{found.root / name}: differs from its record: {_again(entries[0][1])}"


def _outdated(found: _Found, records: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each input that is missing or differs from the record of its output."""
    for path, record in records.items():
        for name, digest in record["from"].items():
            current = found.sum_of(name)
            if current != digest:
                state = "is missing" if current is None else "has changed"
                yield f"{path.parent}: was made from {name}, which {state}: {_again(path)}"


def _audio(found: _Found, sums: Path) -> Iterator[str]:
    """Yield a line for each difference between an audio folder and the list beside it."""
    folder = sums.parent / "audio"
    listed: dict[str, str] = {}
    for number, line in enumerate(read_text(sums).split("\n"), start=1):
        digest, _, name = line.partition("  ")
        if line and not _is_inside(name):
            yield f"{sums}, line {number}: {line[:100]!r} is not the hash of a file in {folder}"
        elif line:
            listed[name.removeprefix("./")] = digest
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there.discard(".snakemake_timestamp")
    for name in sorted(there - listed.keys()):
        yield f"{folder / name}: is not in {sums}: remove it"
    for name, digest in listed.items():
        current = found.sum_of((folder / name).relative_to(found.root).as_posix())
        if current is None:
            yield f"{folder / name}: is missing: create the audio of {sums.parent} again"
        elif current != digest:
            yield f"{folder / name}: differs from {sums}: create it again"


def _unnamed(root: Path, records: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each table and model that no record names."""
    named = {name for record in records.values() for name in record["made"]}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in (".parquet", ".safetensors", ".arrow") and name not in named:
            yield f"{path}: no record names it: remove it and run Snakemake again"


def _again(output: Path) -> str:
    """What to do: Snakemake repeats a job that lacks an output, which a record is too."""
    return f"delete {output} and run Snakemake again"


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option, given as `--name=value` or `--name value`."""
    for place, argument in enumerate(arguments):
        if argument == name:
            return arguments[place + 1] if place + 1 < len(arguments) else None
        if argument.startswith(f"{name}="):
            return argument.removeprefix(f"{name}=")
    return None


def root_of(arguments: Sequence[str]) -> Path | None:
    """Return the results folder of a command line (`--root`); None without one."""
    found = _option(arguments, "--root")
    return Path(found) if found else None


def command_of(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return a command line's command ("codec import": "codec-import") and its arguments."""
    words = list(arguments)
    n = 2 if words[:1] and words[0] in ("codec", "policy", "corpus", "weights") else 1
    command = re.sub(r"[^a-z-]", "", "-".join(words[:n]))
    return command, words[n:]
