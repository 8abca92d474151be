"""One trial: a copy of the run is disturbed at one moment, restarted, and compared."""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from tests.faults.comparison import differences, message_problems
from tests.faults.injections import (
    ERRORS,
    KILL_SNAKEMAKE,
    KINDS,
    OF_THE_JOB,
    TWO_RUNS,
    Running,
    mount_disk,
    unmount_below,
)
from tests.faults.undisturbed import RUN, Job, at, lost_utterances, that_follow, utterances_of

START_S, END_S, RESTART_S, ORPHAN_S = 300.0, 600.0, 1800.0, 30.0
"""Longest times: until the job starts, until the disturbed run has ended, of a restart, and for
which a process may outlive the one that it works for."""

WHOLE_RUN_EVERY = 10
ATTEMPTS = 4


class Missed(Exception):
    """The job had ended before the moment of the fault."""


class Broken(Exception):
    """A trial that cannot be made."""


@dataclass(frozen=True)
class Plan:
    """What a trial does.

    Attributes:
        k: number of the trial.
        job: that the fault is meant for.
        missing: jobs whose outputs are not there at the start: this one, or all from it on.
        kind: of fault.
        share: of the job's undisturbed duration at which the fault comes.
        n_outputs: it comes as soon as so many outputs of the job exist; None: by `share`.
        whole: all results are asked for, and not just those of the job.
        of_work: the disk that gets full, or the folder that becomes read-only, is the one of
            checkpoints and not the one of results.
        at_once: the restart does not wait until the jobs of a killed Snakemake have ended.
    """

    k: int
    job: Job
    missing: tuple[Job, ...]
    kind: str
    share: float
    n_outputs: int | None
    whole: bool
    of_work: bool
    at_once: bool

    @property
    def moment(self) -> str:
        by_outputs = self.n_outputs is not None
        return f"output {self.n_outputs}" if by_outputs else f"{self.share:.3f}"

    @property
    def command(self) -> list[str]:
        targets = [] if self.whole else ["--", *self.job.outputs, *self.job.removed]
        return ["snakemake", "--cores", "2", *targets]

    def earlier(self, left: int) -> "Plan":
        """The plan of the next attempt; the last of those left comes as soon as it can."""
        share = min(self.share, 1.0) * 0.75 if left > 1 else 0.0
        return replace(self, share=share, n_outputs=None)


def drawn(seed: int, k: int, jobs: Sequence[Job]) -> Plan:
    """Plan of trial k = 1, 2... Ten trials have each kind once, as many as jobs each job once."""
    job = _in_turn(f"{seed} jobs", jobs, k)
    kind = _in_turn(f"{seed} kinds", list(KINDS), k)
    whole = k % WHOLE_RUN_EVERY == 0
    chance = random.Random(f"{seed} {k}")
    n_outputs = chance.randint(1, len(job.outputs)) if chance.random() < 0.3 else None
    share = chance.uniform(0.0, 1.1)
    if kind == TWO_RUNS:  # a second one takes seconds to start
        n_outputs, share = None, share / 4
    return Plan(
        k,
        job,
        (job, *that_follow(job, jobs)) if whole else (job,),
        kind,
        share,
        n_outputs,
        whole,
        of_work="--work" in job.arguments and chance.random() < 0.5,
        at_once=kind == KILL_SNAKEMAKE and chance.random() < 0.5,
    )


def _in_turn(seed: str, among: Sequence, k: int):
    """The k-th of the elements, which come all once in ever new orders."""
    rounds, place = divmod(k - 1, len(among))
    return random.Random(f"{seed} {rounds}").sample(among, len(among))[place]


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        plan: with the moment at which the fault came.
        ended: exit status of the disturbed run.
        spent_s: seconds that the job ran until the fault had ended it.
        restart_s: wall time of the restart.
        kept_s: seconds of them that a checkpoint had kept.
        again_s: seconds of the job's work that were done twice.
        resumed_at: step that a training went on from, if one did.
        lost: utterances that are nowhere in the results.
        notes: on the fault, for the reader.
        problems: what is not right; none if the restart is identical.
    """

    plan: Plan
    ended: int = 0
    spent_s: float = 0.0
    kept_s: float = 0.0
    restart_s: float = 0.0
    again_s: float = 0.0
    resumed_at: str = ""
    lost: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def perform(plan: Plan, base: Path, folder: Path) -> Outcome:
    """Run a trial; where the job is over before the moment of the fault, again with an earlier one.

    Args:
        plan: of the trial.
        base: folder of the undisturbed project.
        folder: of the copy; it stays, for `discard`.
    """
    for left in reversed(range(ATTEMPTS)):
        outcome = Outcome(plan)
        try:
            _copy(plan, base, folder)
            _disturb(plan, folder, outcome)
            _restart(plan, folder, outcome)
            outcome.problems += differences(base, folder, at(folder).environment)
            outcome.lost = len(lost_utterances(folder, utterances_of(base)))
            return outcome
        except Missed:
            plan = plan.earlier(left)
        except Broken as error:
            outcome.problems.append(str(error))
            return outcome
        finally:
            left = processes_in(folder)
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, ORPHAN_S)  # until then a disk of the trial is in use
    outcome.problems.append(f"no fault: the job was over each of {ATTEMPTS} times")
    return outcome


def discard(folder: Path) -> None:
    """Remove the copy of a trial, also of a killed one."""
    unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    found = psutil.process_iter(["cwd"])
    return [p for p in found if p.info["cwd"] and Path(p.info["cwd"]).is_relative_to(folder)]


def log_of(folder: Path, which: str) -> Path:
    """What a run of a trial printed: "first" or "restart"."""
    return folder.with_name(f"{folder.name}.{which}.log")


def _disk(plan: Plan, folder: Path) -> Path:
    return folder / ("work" if plan.of_work else "results") / RUN


def _copy(plan: Plan, base: Path, folder: Path) -> None:
    """Copy the finished run without what the jobs made that are to be missing."""
    discard(folder)
    folder.mkdir(parents=True)
    if plan.kind == "disk full":
        mount_disk(_disk(plan, folder))
    subprocess.run(["cp", "-a", f"{base}/.", folder], check=True)
    for job in plan.missing:
        for path in (folder / name for name in job.outputs):
            if path.is_dir():
                shutil.rmtree(path)
                continue
            for file in (path, path.with_name(f"record_{job.arguments[0]}.json")):
                file.unlink(missing_ok=True)  # of the last of the outputs it is gone already


def _disturb(plan: Plan, folder: Path, outcome: Outcome) -> None:
    """Start the run, inject the fault at its moment, and see the run end."""
    first = _start(plan, folder, "first")
    job = _job_of(first, plan.job)
    began, date = time.monotonic(), time.time()
    _wait_for_moment(plan, folder, first, job, began)
    run = Running(first, job, lambda: _start(plan, folder, "second"), _disk(plan, folder))
    try:
        KINDS[plan.kind](run)
        if not plan.at_once:
            job.wait(ORPHAN_S if plan.kind == KILL_SNAKEMAKE else END_S)
        outcome.spent_s = time.monotonic() - began
        outcome.ended = first.wait(END_S)
    except (psutil.TimeoutExpired, subprocess.TimeoutExpired) as error:
        outcome.problems.append(f"did not end: {error}")
    finally:
        run.undo()
    written = [path.stat().st_mtime for path in _checkpoints(plan, folder) if path.is_file()]
    outcome.kept_s = max(written, default=date) - date
    outcome.notes, outcome.problems = run.notes, outcome.problems + run.problems
    if plan.kind == TWO_RUNS and outcome.ended != 0:
        outcome.problems.append(f"the first of two runs ended with {outcome.ended}")
    if plan.kind in ERRORS and outcome.ended != 0:
        printed = log_of(folder, "first").read_text(errors="replace")
        for name in re.findall(r"^hpro: failed: .* \(log: (.*)\)$", printed, re.MULTILINE):
            outcome.problems += message_problems(folder / name)


def _checkpoints(plan: Plan, folder: Path) -> list[Path]:
    arguments = plan.job.arguments
    if "--work" not in arguments:
        return []
    return list((folder / arguments[arguments.index("--work") + 1]).glob("checkpoint_*.pt"))


def _start(plan: Plan, folder: Path, which: str) -> subprocess.Popen[bytes]:
    """Start the documented command, as from a terminal of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MAKEFLAGS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    with log_of(folder, which).open("wb") as log:
        return subprocess.Popen(
            plan.command,
            cwd=folder,
            env={**kept, **at(folder).environment, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _job_of(snakemake: subprocess.Popen[bytes], job: Job) -> psutil.Process:
    """The process of a job's `hpro`, once there is one."""
    deadline = time.monotonic() + START_S
    while snakemake.poll() is None and time.monotonic() < deadline:
        for process in _children(snakemake.pid):
            words = _command(process)
            if tuple(words[-len(job.arguments) :]) == job.arguments and "hpro_core.cli" in words:
                return process
        time.sleep(0.01)
    raise Broken(f"{job.name} did not start: see the log of the first run")


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _wait_for_moment(
    plan: Plan, folder: Path, run: subprocess.Popen[bytes], job: psutil.Process, began: float
) -> None:
    """Wait until the fault is due.

    Raises:
        Missed: what the fault is meant for has ended.
    """
    outputs = [folder / name for name in plan.job.outputs]

    def due() -> bool:
        if plan.kind in ERRORS and not _is_ready(job):
            return False
        if plan.n_outputs is not None:
            return sum(path.exists() for path in outputs) >= plan.n_outputs
        return time.monotonic() - began >= plan.share * plan.job.duration_s

    of_the_job = plan.kind in OF_THE_JOB | ERRORS
    while job.is_running() if of_the_job else run.poll() is None:
        if due():
            return
        time.sleep(0.001)
    raise Missed


def _is_ready(job: psutil.Process) -> bool:
    """Whether the command itself runs, which has a handler for SIGTERM, and not Python's start."""
    try:
        status = Path(f"/proc/{job.pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return caught is not None and int(caught[1], 16) >> 14 & 1 == 1


def _restart(plan: Plan, folder: Path, outcome: Outcome) -> None:
    """Give the same command again, and nothing else."""
    began, date = time.monotonic(), time.time()
    restart = _start(plan, folder, "restart")
    try:
        status = restart.wait(RESTART_S)
    except subprocess.TimeoutExpired:
        status = -1
    outcome.restart_s = time.monotonic() - began
    if status != 0:
        lines = log_of(folder, "restart").read_text(errors="replace").strip().splitlines()
        outcome.problems.append(f"the restart ended with {status}: {' / '.join(lines[-3:])}")
    benchmark = folder / plan.job.benchmark
    if benchmark.is_file() and benchmark.stat().st_mtime > date:
        log = (folder / plan.job.log).read_text(errors="replace")
        outcome.resumed_at = ", ".join(re.findall(r"resuming from step (\d+)", log))
        outcome.again_s = outcome.spent_s - (outcome.kept_s if outcome.resumed_at else 0.0)
    _, left = psutil.wait_procs(processes_in(folder), ORPHAN_S)
    outcome.problems += [f"left running: {' '.join(_command(each))}" for each in left]
