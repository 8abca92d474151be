"""The one way through the folders of a corpus, for readers, preflight and key files."""

import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

Entries: TypeAlias = "list[os.DirEntry[str]]"


def folders(top: str | Path) -> Iterator[tuple[str, Entries]]:
    """Each folder at or below a path, in a fixed order; none if the path is no folder.

    Links to folders are followed, but for those that lead back up.

    Yields:
        Its path from `top` ("" for `top`, "a/", "a/b/"), and what is in it by name.
    """
    if os.path.isdir(top):
        yield from _folders(os.fspath(top), "", ())


def _folders(folder: str, name: str, above: tuple[str, ...]) -> Iterator[tuple[str, Entries]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=attrgetter("name"))
    yield name, entries
    for entry in entries:
        if entry.is_dir():
            yield from _folders(entry.path, f"{name}{entry.name}/", (*above, real))
