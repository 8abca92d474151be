"""Record of a run's jobs for `hpro status`: work/<run>/progress.jsonl.

Snakemake's main process writes the graph when the run starts, and a line for each job that starts,
ends or fails. Readers take no lock. On a cluster a job "starts" when it is submitted.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from hpro_core.plan.durations import Job, jobs_from_json, jobs_to_json
from hpro_core.plan.live import graph_of
from hpro_core.process import this_process

EVENTS = {"job_started": "started", "job_finished": "finished", "job_error": "failed"}
"""Snakemake's event -> name in the record."""


def record_path(run: str) -> Path:
    """Path of the record of a run, relative to the folder of the project."""
    return Path("work", run, "progress.jsonl")


class RunRecorder(logging.Handler):
    """Writes the record from Snakemake's log records; a new run replaces the old record."""

    def __init__(self, workflow: Any, run: str, now: Callable[[], float] = time.time):
        super().__init__()
        self.workflow, self.path, self.now = workflow, record_path(run), now
        self.is_open = False
        self.ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of an event.

        As in every handler of `logging`, an error does not end the run. A full disk is reported
        once, and the record ends there.
        """
        try:
            self._take(str(getattr(record, "event", None) or ""), record)
        except OSError as error:
            self._report(error)
        except Exception:
            self.handleError(record)

    def _report(self, error: OSError) -> None:
        self.ended = True
        reason = f"{self.path} cannot be written ({error.strerror})"
        print(f"hpro: {reason}: hpro status is out of date", file=sys.stderr, flush=True)

    def _take(self, event: str, record: Any) -> None:
        if self.ended or self.workflow.dryrun or self.workflow.touch:
            return
        if event == "run_info" and not self.is_open:
            self._begin()
        elif self.is_open and event in EVENTS:
            numbers = {
                "job_started": lambda: list(record.jobs),
                "job_finished": lambda: [record.job_id],
                "job_error": lambda: [record.jobid],
            }[event]()
            self._write("a", event=EVENTS[event], jobs=numbers)

    def _begin(self) -> None:
        limits, jobs, todo = graph_of(self.workflow)
        order = {rule.name: place for place, rule in enumerate(self.workflow.rules)}
        ordered = sorted(jobs.values(), key=lambda job: order[job.rule])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write(
            "w",
            event="start",
            process=this_process(),
            limits=limits,
            todo=list(todo),
            jobs=jobs_to_json(ordered),
        )
        self.is_open = True

    def _write(self, mode: str, **line: Any) -> None:
        with self.path.open(mode, encoding="utf-8") as file:
            file.write(json.dumps({"time": self.now(), **line}) + "\n")

    def close(self) -> None:
        """Write the end of the run; called by Snakemake, and by `logging` when Python ends."""
        if self.is_open and not self.ended:
            try:
                self._write("a", event="end")
            except OSError as error:
                self._report(error)
            self.ended = True
        super().close()


@dataclass
class RunRecord:
    """What the record of a run says.

    Attributes:
        process: Snakemake's process, see `process.this_process`.
        started: time of the start, seconds since the epoch.
        limits: resource -> available amount; empty on a cluster.
        jobs: number -> job, in the order of the rules.
        todo: numbers of the jobs that this run is to make.
        running: number -> when it started.
        took_s: number of a successful job -> its seconds.
        failed: numbers of failed jobs that were not started again.
        last: time of the last line.
        ended: whether Snakemake ended by itself.
    """

    process: str
    started: float
    limits: dict[str, int]
    jobs: dict[int, Job]
    todo: set[int]
    last: float
    running: dict[int, float] = field(default_factory=dict)
    took_s: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    ended: bool = False


def read_record(path: Path) -> RunRecord | None:
    """Read the record of a run.

    Returns:
        None if there is no record, or it was written by another version. A last line that is
        incomplete, as while it is written, is left out.
    """
    if not path.is_file():
        return None
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    try:
        return _record_of(
            _Start.model_validate(lines[0]), TypeAdapter(list[_Event]).validate_python(lines[1:])
        )
    except (ValueError, IndexError):
        return None


class _Start(BaseModel):
    event: Literal["start"]
    time: float
    process: str
    limits: dict[str, int]
    todo: list[int]
    jobs: list[dict[str, Any]]


class _Event(BaseModel):
    event: Literal["started", "finished", "failed", "end"]
    time: float
    jobs: list[int] = []


def _record_of(start: _Start, later: list[_Event]) -> RunRecord:
    jobs = jobs_from_json(start.jobs)
    found = RunRecord(
        process=start.process,
        started=start.time,
        limits=start.limits,
        jobs=jobs,
        todo=jobs.keys() & start.todo,
        last=later[-1].time if later else start.time,
    )
    for line in later:
        at, numbers = line.time, [n for n in line.jobs if n in found.todo]
        match line.event:
            case "started":
                found.running |= dict.fromkeys(numbers, at)
                found.failed -= set(numbers)
            case "finished":
                found.took_s |= {n: at - found.running.pop(n, at) for n in numbers}
            case "failed":
                found.failed |= set(numbers)
                for number in numbers:
                    found.running.pop(number, None)
            case "end":
                found.ended = True
    return found
