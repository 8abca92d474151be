"""The kinds of faults, each done to a run at one moment."""

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SECOND_RUN_S = 120.0
ROOMY = "size=2g"


@dataclass
class Running:
    """A run under way.

    Attributes:
        snakemake: the process that was started.
        job: the `hpro` that the fault is meant for.
        start_again: starts the same command a second time.
        folder: of the disk that gets full, or that cannot be written to.
        undo: what ends the fault, where that is more than the end of a process.
        notes: how a fault was done where there is a choice, and what came of a second run.
        problems: what was not right already then.
    """

    snakemake: subprocess.Popen[bytes]
    job: psutil.Process
    start_again: Callable[[], subprocess.Popen[bytes]]
    folder: Path
    undo: Callable[[], object] = lambda: None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def kill_job(run: Running) -> None:
    run.job.kill()


def stop_job(run: Running) -> None:
    run.job.terminate()


def kill_snakemake(run: Running) -> None:
    run.snakemake.kill()


def kill_all(run: Running) -> None:
    os.killpg(run.snakemake.pid, signal.SIGKILL)


def stop_snakemake(run: Running) -> None:
    run.snakemake.terminate()


def interrupt(run: Running) -> None:
    """As Ctrl-C does, which reaches all processes of the terminal."""
    os.killpg(run.snakemake.pid, signal.SIGINT)


def open_no_more(run: Running) -> None:
    """No file can be opened from now on: an error is raised wherever the job is."""
    _limit(run.job, resource.RLIMIT_NOFILE, 3)


def fill_disk(run: Running) -> None:
    """The disk has no byte left; without the right to mount one, files of this job cannot grow."""
    if not run.folder.is_mount():
        run.notes.append("by a limit of the size of files")
        _limit(run.job, resource.RLIMIT_FSIZE, 0)
        return
    for _ in range(5):  # the job may write in between
        disk = os.statvfs(run.folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        if _mounted("-o", f"remount,size={used}", run.folder):
            run.undo = lambda: _mounted("-o", f"remount,{ROOMY}", run.folder)
            return
    raise OSError(f"{run.folder} cannot be made smaller")


def forbid_writing(run: Running) -> None:
    """A folder becomes read-only; files that are open stay open."""
    run.folder.mkdir(parents=True, exist_ok=True)
    if _mounted("--bind", run.folder, run.folder):
        run.undo = lambda: subprocess.run(["umount", run.folder], check=True)
        assert _mounted("-o", "remount,bind,ro", run.folder)
        return
    if os.geteuid() == 0:
        raise OSError("root may write everywhere: it takes the right to mount, or another user")
    run.notes.append("by permissions")
    folders = [run.folder, *(path for path in run.folder.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in folders}
    for path in folders:
        path.chmod(0o555)
    run.undo = lambda: [path.chmod(mode) for path, mode in modes.items() if path.exists()]


def run_twice(run: Running) -> None:
    """The same command is given again: it is refused, unless the first run has ended meanwhile."""
    second = run.start_again()
    status = second.wait(SECOND_RUN_S)
    under_way = run.snakemake.poll() is None
    run.notes.append(f"second run: {status}")
    if status == 0 and under_way:
        run.problems.append("a second run was let in beside the first")


KILL_SNAKEMAKE, TWO_RUNS = "SIGKILL of Snakemake alone", "two runs at once"
KINDS: dict[str, Callable[[Running], None]] = {
    "SIGKILL of the job": kill_job,
    "SIGTERM of the job": stop_job,
    KILL_SNAKEMAKE: kill_snakemake,
    "SIGKILL of all": kill_all,
    "SIGTERM of Snakemake": stop_snakemake,
    "Ctrl-C": interrupt,
    "no more files": open_no_more,
    "disk full": fill_disk,
    "read-only folder": forbid_writing,
    TWO_RUNS: run_twice,
}
OF_THE_JOB = {"SIGKILL of the job", "SIGTERM of the job"}
"""Kinds that end the job's own process; others strike as long as Snakemake is there."""
ERRORS = {"no more files", "disk full", "read-only folder"}
"""Kinds after which the job itself fails, with a message: it has to be there."""


def mount_disk(folder: Path) -> bool:
    """A small disk of its own for a folder, in memory; false where this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    return _mounted("-t", "tmpfs", "-o", ROOMY, "tmpfs", folder)


def unmount_below(folder: Path) -> None:
    """Unmount all that lies in a folder, also what a killed trial has left."""
    for part in reversed(psutil.disk_partitions(all=True)):
        if Path(part.mountpoint).is_relative_to(folder):
            subprocess.run(["umount", part.mountpoint], check=True)


def _mounted(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def _limit(process: psutil.Process, what: int, to: int) -> None:
    _, most = resource.prlimit(process.pid, what)
    resource.prlimit(process.pid, what, (to, most))
