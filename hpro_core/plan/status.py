"""`hpro status`: state of a run's jobs, time left, and last values of its trainings.

Everything is read from files, without a lock, so that it also works for a run on a cluster and for
one that was killed. The jobs are those of the run's record (`run_record`). A run without one was
started by an older version or copied from elsewhere: its jobs are those of the target `all`, listed
by Snakemake, and a job is done if its outputs exist.
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import read_yaml
from hpro_core.locks import Holder, holder_in
from hpro_core.plan.curves import LastValue, last_values
from hpro_core.plan.durations import Job, share_and_left_s
from hpro_core.plan.jobs import listing_of
from hpro_core.plan.live import clock
from hpro_core.plan.run_record import RunRecord, read_record, record_path
from hpro_core.plan.settings import Source, merge_and_check
from hpro_core.process import is_running, is_running_since

JobState = Literal["done", "running", "queued", "stopped", "failed", "missing", "waiting"]
"""State of a job. `missing`: it was done, and outputs of it were removed after the run."""

RunState = Literal["running", "finished", "stopped", "killed", "unseen", "not started"]
"""State of a run. `stopped`: Snakemake ended before all jobs were done; `killed`: it ended without
a word; `unseen`: its process is on another machine."""

CLOCK_S = 2.0
"""Largest difference between the clocks of a file system and of a process."""

BOARDS = ("*/*/tensorboard", "policy/*/*/tensorboard")
"""TensorBoard's folders below results/<run>."""

TAIL_BYTES = 4096
"""Bytes at the end of a log in which the last progress line is searched."""


@dataclass(frozen=True)
class Training:
    """Last values of a training's terms, and its step where a log says it."""

    name: str
    values: list[LastValue]
    progress: str = ""  # of a running job: the last progress line of its log


@dataclass
class Status:
    """State of a run.

    Attributes:
        run: its name.
        state: see `RunState`.
        about: state in words.
        jobs: number -> job, in the order of the rules.
        states: number -> state of the job.
        since_s: number of a running job -> seconds since its start.
        left_s: seconds left, measured on this machine; None if unknown.
        unknown: the reason why `left_s` is unknown; empty for a run that is not under way.
        share: completed fraction of the jobs' time; None if unknown.
        by_hand: running commands that no Snakemake started: name of a lock and its holder.
        trainings: of the jobs that run or were stopped, else of all.
    """

    run: str
    state: RunState
    about: str
    jobs: dict[int, Job]
    states: dict[int, JobState]
    since_s: dict[int, float] = field(default_factory=dict)
    left_s: float | None = None
    unknown: str = ""
    share: float | None = None
    by_hand: dict[str, Holder] = field(default_factory=dict)
    trainings: list[Training] = field(default_factory=list)


def status_of(run: str, now: float | None = None) -> Status:
    """Read the state of a run of the project in the working directory.

    Args:
        run: name of the run.
        now: seconds since the epoch; None for the clock.

    Raises:
        HproError: there is no such run, or its settings or curves cannot be read.
    """
    known = runs()
    if run not in known:
        listed = ", ".join(known) or "none"
        raise HproError(f"no run {run!r} here; runs: {listed}{did_you_mean(run, known)}")
    now = time.time() if now is None else now
    record = read_record(record_path(run))
    found = _without_record(run, now) if record is None else _with_record(run, record, now)
    found.by_hand = {} if found.state == "running" else _commands(run)
    found.trainings = _trainings(found)
    return found


def runs() -> list[str]:
    """Return the names of the runs whose results or work are in the working directory."""
    with_work = {path.parent.name for path in Path("work").glob("*/run.lock")}
    with_results = {path.parent.name for path in Path("results").glob("*/params")}
    return sorted(with_work | with_results)


# --- a run with a record --------------------------------------------------------------------------


def _with_record(run: str, record: RunRecord, now: float) -> Status:
    alive = is_running(record.process) if not record.ended else False
    open_jobs = record.todo - record.took_s.keys()
    states = {n: _recorded_state(n, record, alive) for n in record.jobs}
    if not record.ended and not record.limits:
        states |= _of_cluster(record, {n: record.jobs[n] for n in record.running})
    state: RunState
    if record.ended:
        state = "stopped" if open_jobs else "finished"
    elif alive is None:
        state = "unseen"
    else:
        state = "running" if alive else "killed"
    if state in ("finished", "stopped", "killed"):
        done = (n for n in record.jobs if states[n] == "done")
        states |= dict.fromkeys((n for n in done if not _has_outputs(record.jobs[n])), "missing")
    found = Status(run, state, _about(state, record, now), record.jobs, states)
    found.since_s = {n: now - at for n, at in record.running.items() if states[n] == "running"}
    if state in ("running", "unseen"):
        _add_time_left(found, record)
    return found


def _recorded_state(number: int, record: RunRecord, alive: bool | None) -> JobState:
    if number in record.took_s or number not in record.todo:
        return "done"
    if number in record.failed:
        return "failed"
    if number in record.running:
        return "stopped" if alive is False else "running"
    return "waiting"


def _of_cluster(record: RunRecord, jobs: Mapping[int, Job]) -> dict[int, JobState]:
    """States of submitted jobs of a cluster, from their files.

    Jobs of a cluster run to their end if Snakemake is killed. A job writes its log from its start,
    and its benchmark file at its end.
    """
    found: dict[int, JobState] = {}
    for number, job in jobs.items():
        since = record.running[number]
        if _written_since(job.benchmark, since):
            found[number] = "done"
        else:
            found[number] = "running" if _written_since(job.log, since) else "queued"
    return found


def _about(state: RunState, record: RunRecord, now: float) -> str:
    since = _date(record.started)
    machine, pid, _ = (record.process or "an unknown host 0 ").rsplit(" ", 2)
    host = machine.split("/")[0]
    again = "the same command continues it"
    match state:
        case "finished":
            return f"finished {_date(record.last)}, after {clock(record.last - record.started)}"
        case "stopped":
            return f"stopped {_date(record.last)}: {again}"
        case "killed":
            jobs = "" if record.limits else "; submitted jobs run to their end"
            return f"killed after {_date(record.last)} (process {pid} is gone){jobs}: {again}"
        case "unseen":
            return (
                f"started {since} by process {pid} on {host}, which cannot be seen from here; "
                f"last event {clock(now - record.last)} ago"
            )
    return f"under way since {since}, {clock(now - record.started)} so far (process {pid})"


def _add_time_left(found: Status, record: RunRecord) -> None:
    """Add the time left, from the last durations of the jobs on this machine."""
    todo = {n: job for n, job in record.jobs.items() if n in record.todo}
    found.share, found.left_s = share_and_left_s(
        record.jobs, todo, record.took_s, found.since_s, record.limits
    )
    if found.left_s is not None:
        return
    if not record.limits:
        found.unknown = "on a cluster, where queueing times are unknown"
        return
    ran = {job.rule for n, job in record.jobs.items() if job.last_s or n in record.took_s}
    rules = dict.fromkeys(job.rule for job in todo.values() if job.rule not in ran)
    found.unknown = f"never ran on this machine: {', '.join(rules)}"


# --- a run without a record -----------------------------------------------------------------------


def _without_record(run: str, now: float) -> Status:
    settings = _settings_file(run)
    if settings is None:
        return Status(run, "not started", "no settings of it by Snakemake are here", {}, {})
    jobs = listing_of(merge_and_check([Source(str(settings), read_yaml(settings))])[1]).graph
    holder = _holder_in(Path("work", run, "run.lock"))
    alive = _is_alive(holder) if holder else False
    since = datetime.fromisoformat(holder.since).timestamp() if holder else now
    states: dict[int, JobState] = {}
    for number, job in jobs.items():
        started = holder is not None and _written_since(job.log, since)
        if _has_outputs(job):
            states[number] = "done"
        elif started:
            states[number] = "stopped" if alive is False else "running"
        else:
            states[number] = "waiting"
    done = all(state == "done" for state in states.values())
    state: RunState = "finished" if done else "stopped"
    about = "finished" if done else "not under way: some results are missing"
    if holder is not None:
        where = f"process {holder.pid} on {holder.host}, since {holder.since[:16]}"
        state = "unseen" if alive is None else "running" if alive else "killed"
        about = {
            "running": f"under way ({where})",
            "unseen": f"started by {where}, which cannot be seen from here",
            "killed": f"killed ({where}): the same command continues it",
        }[state]
    unknown = "the run was started by an older version" if state in ("running", "unseen") else ""
    return Status(run, state, about, jobs, states, unknown=unknown)


def _settings_file(run: str) -> Path | None:
    """The newest settings with which a run started, else params.yaml if it is of this run."""
    saved = sorted(Path("work", run, "settings").glob("*.yaml"), key=lambda f: f.stat().st_mtime_ns)
    if saved:
        return saved[-1]
    params = Path("params.yaml")
    return params if params.is_file() and read_yaml(params).get("run") == run else None


# --- files ----------------------------------------------------------------------------------------


def _has_outputs(job: Job) -> bool:
    return all(os.path.lexists(path) for path in job.outputs)


def _written_since(path: str, since: float) -> bool:
    try:
        return bool(path) and os.stat(path).st_mtime >= since - CLOCK_S
    except FileNotFoundError:
        return False


def _holder_in(path: Path) -> Holder | None:
    """The holder of a lock, see `holder_in`; None also if the file has other values."""
    holder = holder_in(path)
    try:
        if holder is not None:
            datetime.fromisoformat(holder.since)
            int(holder.pid)
    except (ValueError, TypeError):
        return None
    return holder


def _is_alive(holder: Holder) -> bool | None:
    """Whether the holder of a lock runs; None if it is on another machine."""
    if holder.host != socket.gethostname():
        return None
    return is_running_since(holder.pid, datetime.fromisoformat(holder.since))


def _commands(run: str) -> dict[str, Holder]:
    """Commands that hold their lock and have not been killed, by the name of the command."""
    found = {}
    for path in sorted(Path("work", run, "locks").glob("*.lock")):
        holder = _holder_in(path)
        if holder is not None and _is_alive(holder) is not False:
            found[path.stem.rpartition("-")[0]] = holder
    return found


def _trainings(status: Status) -> list[Training]:
    """Trainings of the jobs that run or were stopped, else all of them that have values."""
    active = [n for n, state in status.states.items() if state in ("running", "stopped", "failed")]
    numbers = [n for n in active if status.jobs[n].curves] or list(status.jobs)
    found = []
    for number in numbers:
        job = status.jobs[number]
        if job.curves:
            progress = _last_progress(job.log) if status.states[number] == "running" else ""
            found.append(Training(job.name, last_values(Path(job.curves).parent), progress))
    if not status.jobs:  # commands by hand
        root = Path("results", status.run)
        for folder in sorted(board.parent for name in BOARDS for board in root.glob(name)):
            found.append(Training(str(folder.relative_to(root)), last_values(folder)))
    return [training for training in found if training.values or training.progress]


def _last_progress(log: str) -> str:
    """The last progress line in a log, as `hpro_core.progress` prints it; "" without one."""
    try:
        with open(log, "rb") as file:
            file.seek(-min(TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    lines = [line for line in text.splitlines() if " s left" in line and "/s, " in line]
    return lines[-1] if lines else ""


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "minutes")
