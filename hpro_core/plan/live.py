"""Progress of a whole run, from Snakemake's log records: an announcement and a progress line.

On a terminal the line is redrawn, and Snakemake's lines of each job are hidden. Elsewhere they are
kept and a line is added at each job's end. `.snakemake/log` has Snakemake's lines in both cases.
"""

import logging
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from hpro_core.plan.durations import (
    Job,
    add_run,
    expected_s,
    jobs_of,
    last_whole_run,
    share_and_left_s,
    wall_s,
)
from hpro_core.report.provenance import git_revision

VERBOSE = "HPRO_VERBOSE"
"""Environment variable; 1 also shows the output of Snakemake and the jobs on a terminal."""

REDRAW_EVERY_S, LINE_EVERY_S = 1.0, 30.0
CHANGES = ("run_info", "job_started", "job_finished", "job_error")
OF_JOBS = ("workflow_started", "resources_info", "job_info", "progress", "shellcmd", *CHANGES[:3])
NOISE = (
    "Using shell:", "Conda environments: ignored", "Activating conda", "Select jobs", "Elapsed",
)  # fmt: skip


def show_progress(workflow: Any, logger: logging.Logger, run: str) -> bool:
    """Show the progress of the run that Snakemake is about to start.

    Its folders in `benchmarks/` and `logs/` are named `run`.

    Returns:
        Whether the line is redrawn on a terminal; job output would interfere with it.
    """
    options = workflow.output_settings
    quiet = {str(each).lower().rpartition(".")[2] for each in options.quiet or ()}
    own = [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]
    if quiet & {"all", "progress"} or not own:
        return False  # without Snakemake's own handler, a logger plugin shows the run
    verbose = options.verbose or options.printshellcmds or options.debug_dag or options.dryrun
    redrawn = (
        sys.stdout.isatty()
        and sys.stderr.isatty()
        and os.environ.get("TERM") != "dumb"
        and os.environ.get(VERBOSE, "0") in ("", "0")
        and not verbose
    )
    logger.removeHandler(own[0])
    logger.addHandler(RunProgress(own[0], workflow, run, sys.stderr, redrawn))
    return redrawn


class RunProgress(logging.Handler):
    """Forwards Snakemake's records to its own handler, and prints the progress of the whole run."""

    def __init__(
        self,
        shown: logging.Handler,  # Snakemake's own
        workflow: Any,
        run: str,
        stream: TextIO,
        redrawn: bool,  # whether one line is redrawn at the bottom of a terminal
        now: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.shown, self.workflow, self.stream = shown, workflow, stream
        self.run, self.redrawn, self.now = run, redrawn, now
        self.jobs: dict[int, Job] = {}  # of the graph
        self.todo: dict[int, Job] = {}
        self.limits: dict[str, int] = {}  # of resources; none on a cluster
        self.running: dict[int, float] = {}  # job -> when it started
        self.took_s: dict[int, float] = {}  # successful job -> its seconds
        self.failed: set[int] = set()
        self.start: float | None = None  # None before the start, and in a dry run
        self.is_drawn = False
        self.ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Forward the record unless it is hidden, and redraw the line if it changed.

        As in every handler of `logging`, an error is printed and does not end the run.
        """
        try:
            self._show(record)
        except Exception:
            self.handleError(record)

    def _show(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", None) or "")
        if not self.redrawn or not is_noise(event, record):
            self._wipe()
            self.shown.handle(record)
        if event in CHANGES:
            self._take(event, record)
        wanted = event in CHANGES or not self.is_drawn if self.redrawn else event == "progress"
        if self.start is not None and wanted:
            self._draw()

    def _take(self, event: str, record: Any) -> None:
        if event == "run_info" and not self.jobs:
            self._begin()
        elif event == "job_started":  # a failed job is retried
            self.running |= {n: self.now() for n in record.jobs if n in self.todo}
            self.failed -= self.running.keys()
        elif event == "job_finished" and record.job_id in self.running:
            self.took_s[record.job_id] = self.now() - self.running.pop(record.job_id)
        elif event == "job_error" and record.jobid in self.todo:
            self.running.pop(record.jobid, None)
            self.failed.add(record.jobid)

    def _begin(self) -> None:
        self.limits, self.jobs, self.todo = graph_of(self.workflow)
        if self.workflow.touch:
            return
        last = last_whole_run(self._runs, len(self.jobs))
        self._print(announcement(self.jobs, self.todo, self.limits, last))
        if self.workflow.dryrun:
            return
        if self.redrawn:
            self._print(
                f"hpro: the jobs' own output goes to logs/{self.run}/ (watch a file with tail -f); "
                f"{VERBOSE}=1 shows it here"
            )
        self.start = self.now()
        threading.Thread(target=self._tick, daemon=True).start()

    @property
    def _runs(self) -> Path:
        return Path("benchmarks", self.run, "runs.csv")

    def _tick(self) -> None:
        while not self.ended.wait(REDRAW_EVERY_S if self.redrawn else LINE_EVERY_S):
            self.acquire()
            try:
                if not self.ended.is_set():
                    self._draw()
            finally:
                self.release()

    def line(self) -> str:
        """Return the progress line: done, elapsed time, remaining time and running jobs."""
        share, left_s = self._share_and_left_s()
        parts = [
            f"{100 * share:.0f} %" if share is not None else "",
            f"{len(self.took_s)} of {len(self.todo)} jobs",
            f"{clock(self.now() - (self.start or 0.0))} so far",
            f"about {clock(left_s)} left" if left_s and not self.failed else "",
            f"{len(self.failed)} failed" if self.failed else "",
        ]
        names = ", ".join(self.todo[n].name for n in self.running)
        state = "running" if self.limits else "submitted"
        return f"hpro: {', '.join(filter(None, parts))}" + (f"; {state}: {names}" if names else "")

    def _share_and_left_s(self) -> tuple[float | None, float | None]:
        """Completed fraction of the jobs' time, and seconds left; None if unknown."""
        since_s = {n: self.now() - start for n, start in self.running.items()}
        return share_and_left_s(self.jobs, self.todo, self.took_s, since_s, self.limits)

    def _draw(self) -> None:
        if not self.redrawn:
            self._print(self.line())
            return
        width = shutil.get_terminal_size().columns - 1
        self._wipe()
        self.stream.write(self.line()[:width])
        self.stream.flush()
        self.is_drawn = True

    def _wipe(self) -> None:
        if self.is_drawn:
            self.stream.write("\r\033[K")
            self.stream.flush()
            self.is_drawn = False

    def _print(self, text: str) -> None:
        self._wipe()
        print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Print the result of the run and record it if all jobs succeeded; called by Snakemake."""
        if self.start is not None and not self.ended.is_set():
            self.ended.set()
            n, n_todo, wall = len(self.took_s), len(self.todo), self.now() - self.start
            if n == n_todo:
                self._print(f"hpro: {n} jobs done in {clock(wall)}")
                self._record(wall)
            else:
                again = "run the same command again to continue"
                self._print(
                    f"hpro: {n} of {n_todo} jobs done in {clock(wall)}, then stopped; {again}"
                )
            for job in (self.todo[n] for n in sorted(self.failed)):
                self._print(f"hpro: failed: {job.name} (log: {job.log})")
        super().close()

    def _record(self, wall: float) -> None:
        run = {
            "date": datetime.now().isoformat(" ", "seconds"),
            "commit": git_revision(),
            "cores": self.limits.get("_cores", ""),
            "jobs": len(self.todo),
            "of": len(self.jobs),
            "wall_s": f"{wall:.1f}",
        }
        add_run(self._runs, run)


def graph_of(workflow: Any) -> tuple[dict[str, int], dict[int, Job], dict[int, Job]]:
    """Return the limits of a run that begins, its jobs, and those of them that will run.

    The limits (resource -> available amount) are empty on a cluster. Both mappings of jobs are from
    their numbers; the second one is in the order of the rules.
    """
    dag, resources = workflow.dag, workflow.scheduler.global_resources
    limits = {k: n for k, n in resources.items() if n < sys.maxsize}
    limits = limits if workflow.local_exec and "_cores" in limits else {}
    jobs = jobs_of(dag, limits)
    order = {rule.name: place for place, rule in enumerate(workflow.rules)}
    numbers = jobs.keys() & {dag.jobid(job) for job in dag.needrun_jobs()}
    todo = sorted((jobs[n] for n in numbers), key=lambda job: order[job.rule])
    return limits, jobs, {job.number: job for job in todo}


def announcement(
    jobs: Mapping[int, Job],
    todo: Mapping[int, Job],
    limits: Mapping[str, int],
    last: Mapping[str, str] | None,
) -> str:
    """Return the line before the start: jobs per phase, and durations measured here.

    Of all `jobs`, those in `todo` will run. `limits` (resource -> amount) is empty on a cluster,
    where queueing times are unknown. `last` is the last run of all jobs.
    """
    phases = Counter(job.phase for job in todo.values()).items()
    counts = ", ".join(f"{phase} {n}" for phase, n in phases)
    text = f"hpro: {len(todo)} jobs to do of {len(jobs)} ({counts})"
    if last:
        where = ", ".join(filter(None, [last["date"][:10], _cores(last["cores"])]))
        text += f"; the last run of all took {clock(float(last['wall_s']))} here ({where})"
    seconds = expected_s(jobs.values(), {})
    known = {n: seconds[n] for n in todo if n in seconds}
    if not known:
        return f"{text}; they have never run here, so their duration is unknown"
    total = f"{clock(sum(known.values()))} one after another"
    if unknown := len(todo) - len(known):
        return f"{text}; {unknown} of them have never run here, the others took {total}"
    if not limits:
        return f"{text}; these took {total}"
    about = f"about {clock(wall_s(todo, known, limits))} on {_cores(limits['_cores'])}"
    return f"{text}; these took {total}, {about}"


def _cores(n: int | str) -> str:
    """A number of cores with its unit; empty if it is not given."""
    return f"{n} core{'' if int(n) == 1 else 's'}" if n else ""


def clock(seconds: float) -> str:
    """Format seconds as 9:40 or 1:02:03."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def is_noise(event: str, record: logging.LogRecord) -> bool:
    """Whether a record of Snakemake is redundant with the progress line."""
    shown = record.levelno >= logging.WARNING
    return not shown and (event in OF_JOBS or str(record.msg).startswith(NOISE))
