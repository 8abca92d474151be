"""Walks the folders of a corpus, for readers, preflight and key files.

Bytes of a name that are not UTF-8 are surrogate escapes, as in `os`.
"""

import hashlib
import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from hpro_core.errors import HproError

Entries: TypeAlias = "list[os.DirEntry[str]]"


def folders(top: str | Path) -> Iterator[tuple[str, Entries]]:
    """Yield each folder at or below a path, in a fixed order; none if the path is not a folder.

    Links to folders are followed, except those to a parent folder.

    Yields:
        Path relative to `top` ("" for `top`, "a/", "a/b/"), and its entries sorted by name.

    Raises:
        HproError: a folder cannot be read.
    """
    if os.path.isdir(top):
        yield from _folders(os.fspath(top), "", ())


def _folders(folder: str, name: str, above: tuple[str, ...]) -> Iterator[tuple[str, Entries]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    entries = entries_of(folder)
    yield name, entries
    for entry in entries:
        if is_folder(entry):
            yield from _folders(entry.path, f"{name}{entry.name}/", (*above, real))


def entries_of(folder: str | Path) -> Entries:
    """Return the entries of a folder, sorted by name.

    Raises:
        HproError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=attrgetter("name"))
    except OSError as error:
        raise HproError(
            f"{folder} cannot be read ({error.strerror}): give this user read permission"
        ) from error


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a file or a link to one; False for a link to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False


def listing_hash(path: Path) -> str:
    """Hash of the names, sizes and times of the files at or below a path (not of their content).

    A million files take five seconds, most of it for their sizes.
    """
    digest = hashlib.sha256()
    for lines in _listing(path) if path.is_dir() else [[_line(path.name, path.stat())]]:
        digest.update(os.fsencode("\n".join(lines)))  # names in any encoding
    return digest.hexdigest()


def _listing(top: Path) -> Iterator[list[str]]:
    for name, entries in folders(top):
        yield [name, *(_line(entry.name, entry.stat()) for entry in entries if is_file(entry))]


def _line(name: str, found: os.stat_result) -> str:
    return f"{name} {found.st_size} {found.st_mtime_ns}"
