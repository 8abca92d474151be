"""The one way through the folders of a corpus, for readers, preflight and key files.

A name that is not UTF-8 has Python's stand-ins for its bytes (surrogates), as everywhere in os.
"""

import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from hpro_core.errors import HproError

Entries: TypeAlias = "list[os.DirEntry[str]]"


def folders(top: str | Path) -> Iterator[tuple[str, Entries]]:
    """Each folder at or below a path, in a fixed order; none if the path is no folder.

    Links to folders are followed, but for those that lead back up.

    Yields:
        Its path from `top` ("" for `top`, "a/", "a/b/"), and what is in it by name.

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
    """What is in a folder, by name.

    Raises:
        HproError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=attrgetter("name"))
    except OSError as error:
        raise HproError(
            f"{folder} cannot be read ({error.strerror}): let this user read the corpus"
        ) from error


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a file or a link to one; a link to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False
