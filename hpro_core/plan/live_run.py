"""Allows one active run per name, and keeps the settings with which it started.

A run is a Snakemake process that executes jobs. It holds a lock on `work/<run>/run.lock` until it
ends. Key files are written only while the lock is held; a second Snakemake of the same name is
refused, or shows a dry run with the existing key files. Snakemake processes of a cluster's jobs use
a copy of the settings, so that an edit of `params.yaml` takes effect in the next run.
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

RUN, DRY_RUN = "run", "look"
MAX_DRY_RUN_S = 60.0
"""Longest time for which a `snakemake --dry-run`, which writes key files, delays a run."""


class RunActive(HproError):
    """Another process executes or prepares a run of the same name."""

    def __init__(self, run: str, holder: Holder):
        super().__init__(
            f"the run {run!r} is active ({holder}): wait for its end, or give this run another "
            "name (--config run=NAME). Nothing was changed"
        )


def guard_run(
    workflow: Any,
    run: str,
    settings: Mapping[str, Any],
    write_keys: Callable[[], None],
    refused: type[Exception],
) -> None:
    """Write the key files now if no other process has this run, and again before jobs start.

    Only the call of `execute` shows that Snakemake executes jobs. Other commands (`--dag`,
    `--summary`, `--unlock`, `--lint`) do not call it and also need the key files.

    `write_keys` writes each key file whose content has changed. `refused` is Snakemake's exception
    type without a traceback, raised if another process has this run.
    """
    lock = Lock(Path("work", run, "run.lock"))
    try:
        with hold_lock(lock, run, DRY_RUN):
            write_keys()
    except RunActive as other:
        _say(f"{other}. Changes of the settings since its start are not shown")

    @contextmanager
    def alone() -> Iterator[None]:
        """Hold the lock, with key files and settings as they are when it is taken."""
        try:
            with hold_lock(lock, run, RUN) as known:
                if known and remove_stale_locks(run):
                    _say(
                        f"the last run {run!r} was killed: its lock is removed, and this run "
                        "continues it"
                    )
                write_keys()
                workflow.overwrite_configfiles[:] = [save_settings(run, settings)]
                yield
        except HproError as error:
            raise refused(str(error)) from None

    if not workflow.output_settings.dryrun:
        workflow.execute = alone()(workflow.execute)
        workflow.delete_output = alone()(workflow.delete_output)


@contextmanager
def hold_lock(lock: Lock, run: str, purpose: str) -> Iterator[bool]:
    """Hold the lock of a run.

    Yields:
        True if the lock is held; False on a file system without locks.

    Raises:
        RunActive: another process has the run, or holds the lock for a dry run longer than
            `MAX_DRY_RUN_S`.
    """
    deadline = time.monotonic() + MAX_DRY_RUN_S
    try:
        while holder := lock.acquire(purpose):
            if holder.purpose != DRY_RUN or time.monotonic() > deadline:
                raise RunActive(run, holder)
            time.sleep(0.1)
    except LocksUnsupported as error:
        _say(f"no locks on this file system ({error}): do not start a second run {run!r}")
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def remove_stale_locks(run: str, folder: Path = Path(".snakemake/locks")) -> bool:
    """Remove Snakemake's own locks of a run that was killed, and return whether there were any.

    The caller must hold the lock of the run. Locks of other runs are kept. Snakemake's folder has
    file pairs `<n>.input.lock` and `<n>.output.lock`, which list the files of a run.
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
        return []  # its run has ended in the meantime


def save_settings(run: str, settings: Mapping[str, Any]) -> Path:
    """Write the settings of a run for the Snakemake processes of its jobs; return their path.

    It is absolute, with a name from the content. The file is kept: a job may stay queued for long.
    """
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = Path("work", run, "settings", f"{digest}.yaml")
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
    return file.absolute()


def _say(message: str) -> None:
    print(f"hpro: {message}", file=sys.stderr, flush=True)
