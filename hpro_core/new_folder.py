"""Output folders that a user names: new or empty, and complete under their name."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpro_core.errors import HproError


def check_new(out: Path) -> None:
    """Refuse an output that would replace files.

    Raises:
        HproError: `out` exists and is not an empty folder, or cannot be read.
    """
    try:
        if os.path.lexists(out) and not (os.path.isdir(out) and not os.listdir(out)):
            raise HproError(f"{out} exists and is not an empty folder: name a new folder")
    except OSError as error:
        raise _unwritable(out, error) from error


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder under its name only when it is complete.

    Yields:
        A folder beside `out`, which becomes `out`, or is removed after an exception.

    Raises:
        HproError: `out` is not new or empty, or cannot be created.
    """
    check_new(out)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield partial
        try:
            partial.replace(out)
        except OSError as error:
            raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unwritable(out: Path, error: OSError) -> HproError:
    return HproError(f"{out} cannot be written ({error.strerror}): name another folder")
