"""One live run of a name at a time, with the settings that it began with.

A run is a Snakemake that executes jobs. It holds a lock on `work/<run>/run.lock` until it ends, in
whatever way; only while it holds that are key files written, and what a second Snakemake of the
same name wants is refused or shown beside them. Snakemakes that a cluster's jobs start get a copy
of the settings, so that an edit of `params.yaml` counts for the next run.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hpro_core.errors import HproError
from hpro_core.io import write_text
from hpro_core.locks import Holder, Lock, LocksUnsupported

RUN, LOOK = "run", "look"
LOOK_S = 60.0
"""Longest time for which a look (`snakemake --dry-run`) keeps a run waiting: it writes keys."""


class UnderWay(HproError):
    """Another process runs, or prepares, a run of the same name."""

    def __init__(self, run: str, holder: Holder):
        super().__init__(
            f"the run {run!r} is under way ({holder}): wait for its end, or give this one a name "
            "of its own (--config run=NAME). Nothing was changed"
        )


def guard(
    workflow: Any,
    run: str,
    settings: Mapping[str, Any],
    write_keys: Callable[[], None],
    refused: type[Exception],
) -> None:
    """Write the key files now, if no other process runs this run, and again when jobs are to start.

    What Snakemake does with the workflow is known only when it calls `execute`: other commands
    (`--dag`, `--summary`, `--unlock`, `--lint`) have no other end, and need the key files too.

    Args:
        workflow: Snakemake's, in its main process.
        run: name of the run.
        settings: as plain values.
        write_keys: writes each key file whose content has changed.
        refused: Snakemake's exception for what ends without a traceback, raised where another
            process runs this run.
    """
    lock = Lock(Path("work", run, "run.lock"))
    try:
        with held(lock, run, LOOK):
            write_keys()
    except UnderWay as other:
        _say(f"{other}. Edits of the settings since its start are not shown")

    def begin(alone: bool) -> None:
        if alone and remove_stale_locks(run):
            _say(f"the last run {run!r} was killed: its lock is removed, and this one goes on")
        write_keys()
        workflow.overwrite_configfiles[:] = [kept_settings(run, settings)]

    if not workflow.output_settings.dryrun:
        workflow.execute = _held_during(workflow.execute, lock, run, begin, refused)
        workflow.delete_output = _held_during(workflow.delete_output, lock, run, begin, refused)


def _held_during(
    action: Callable[..., Any],
    lock: Lock,
    run: str,
    begin: Callable[[bool], None],
    refused: type[Exception],
) -> Callable[..., Any]:
    """An action of Snakemake's workflow, held alone."""

    def alone(*arguments: Any, **options: Any) -> Any:
        try:
            with held(lock, run, RUN) as known:
                begin(known)
                return action(*arguments, **options)
        except HproError as error:
            raise refused(str(error)) from None

    return alone


@contextmanager
def held(lock: Lock, run: str, purpose: str) -> Iterator[bool]:
    """Hold the lock of a run.

    Yields:
        Whether it is known that no other process holds it: not on a file system without locks.

    Raises:
        UnderWay: another process runs it, or looks at it for longer than a look takes.
    """
    deadline = time.monotonic() + LOOK_S
    try:
        while holder := lock.acquire(purpose):
            if holder.purpose != LOOK or time.monotonic() > deadline:
                raise UnderWay(run, holder)
            time.sleep(0.1)
    except LocksUnsupported as error:
        _say(f"no locks on this file system ({error}): see that no second run {run!r} is started")
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def remove_stale_locks(run: str, folder: Path = Path(".snakemake/locks")) -> bool:
    """Remove Snakemake's own locks of a run that was killed; those of other runs stay.

    Only who holds the lock of the run may call it.

    Args:
        run: its name.
        folder: Snakemake's, with pairs of files `<n>.input.lock` and `<n>.output.lock` that list
            the files of a run.

    Returns:
        Whether there were any.
    """
    pairs: dict[str, list[Path]] = {}
    for file in folder.glob("*.lock"):
        pairs.setdefault(file.name.split(".")[0], []).append(file)
    results = f"results/{run}/"
    stale = [
        file
        for pair in pairs.values()
        if any(line.startswith(results) for each in pair for line in _lines(each))
        for file in pair
    ]
    for file in stale:
        file.unlink(missing_ok=True)
    return bool(stale)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []  # its run has ended meanwhile


def kept_settings(run: str, settings: Mapping[str, Any]) -> Path:
    """Write the settings of a run where the Snakemakes of its jobs read them.

    Returns:
        The path, absolute. Its name follows from its content, and it stays: a job may wait long.
    """
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = Path("work", run, "settings", f"{digest}.yaml")
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
    return file.absolute()


def _say(message: str) -> None:
    print(f"hpro: {message}", file=sys.stderr, flush=True)
