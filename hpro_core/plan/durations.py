"""Measured durations of jobs on this machine, and estimates for the remaining jobs.

Snakemake writes a benchmark file per job, and a run without a failure adds a line to `runs.csv`
beside them. These are the only sources: a job that never ran here has no duration.
"""

import csv
import heapq
import io
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

_MAX_BYTES = 2**20
"""Bytes that are read of a table of durations: about 10,000 rows."""

STEADY_S = 60.0
"""Weight of the last run's pace, in seconds of jobs, against this run's pace."""


@dataclass(frozen=True)
class Job:
    """A job of Snakemake's graph."""

    number: int  # Snakemake's job id
    rule: str
    name: str  # rule and wildcards, for display
    phase: str  # name of the rule file
    log: str = ""  # path; empty without a log
    last_s: float | None = None  # seconds of its last run here; None if it never ran
    needs: frozenset[int] = frozenset()  # numbers of the jobs whose outputs it reads
    asks: Mapping[str, int] = field(default_factory=dict)  # resource -> amount; cores: `_cores`
    priority: int = 0  # jobs with a larger value start first
    benchmark: str = ""  # path of its benchmark file; empty without one
    outputs: tuple[str, ...] = ()  # paths

    @property
    def curves(self) -> str:
        """Path of its training curves; empty if it is no training."""
        return next((path for path in self.outputs if Path(path).name == "training.csv"), "")


def jobs_to_json(jobs: Collection[Job]) -> list[dict[str, Any]]:
    """Return jobs as plain values for `jobs_from_json`."""
    return [asdict(job) | {"needs": sorted(job.needs)} for job in jobs]


def jobs_from_json(values: object) -> dict[int, Job]:
    """Return number -> job from the values of `jobs_to_json`.

    Raises:
        ValueError: the values are of another version.
    """
    return {job.number: job for job in TypeAdapter(list[Job]).validate_python(values)}


def jobs_of(dag: Any, limits: Collection[str]) -> dict[int, Job]:
    """Return number -> job for all jobs in Snakemake's built graph except target rules.

    `limits` are the names of the resources that limit concurrent jobs.
    """
    jobs = {dag.jobid(job): job for job in dag.jobs if not job.is_norun}
    names = display_names([(job.rule.name, job.wildcards_dict) for job in jobs.values()])
    found = {}
    for name, (number, job) in zip(names, jobs.items(), strict=True):
        runs = dag.needrun(job)
        # Not `scheduler_resources`, which would cache undetermined values.
        requested = job.resources.items() if runs and limits else ()
        found[number] = Job(
            number=number,
            rule=job.rule.name,
            name=name,
            phase=Path(str(job.rule.snakefile)).stem,
            log=str(job.log[0]) if job.log else "",
            last_s=benchmark_s(Path(str(job.benchmark))) if job.benchmark else None,
            needs=frozenset(dag.jobid(need) for need in dag.dependencies[job]),
            asks={name: n for name, n in requested if name in limits and isinstance(n, int)},
            priority=dag.priority(job) if runs else 0,
            benchmark=str(job.benchmark or ""),
            outputs=tuple(map(str, job.output)),
        )
    return found


def display_names(jobs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the rule and wildcards of each job for display; the only seed of a run is left out."""
    one_seed = len({wildcards.get("seed") for _, wildcards in jobs} - {None}) < 2

    def words(wildcards: Mapping[str, Any]) -> list[str]:
        kept = {k: v for k, v in wildcards.items() if not (one_seed and k == "seed")}
        return [f"seed {v}" if k == "seed" else str(v).strip("/") for k, v in kept.items()]

    return [" ".join(filter(None, [rule, *words(wildcards)])) for rule, wildcards in jobs]


def benchmark_s(path: Path) -> float | None:
    """Return the seconds of wall time in a benchmark file of Snakemake.

    None if the job was not measured, or the file was truncated by a kill.
    """
    rows = _rows(path, "\t")
    return _seconds(rows[-1].get("s")) if rows else None


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table of durations; none if it is missing or was truncated by a kill.

    Only the first `_MAX_BYTES` are read.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES).decode("utf-8", "replace").replace("\0", "")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def _seconds(text: str | None) -> float | None:
    """The duration in a text, or None."""
    found = re.fullmatch(r"\d+(\.\d*)?([eE][+-]?\d+)?", text or "")
    return float(found.group()) if found else None


def expected_s(jobs: Collection[Job], measured: Mapping[int, float]) -> dict[int, float]:
    """Return number -> expected seconds: of its last run, of this run, or its rule's mean.

    `measured` has the jobs that have ended in this run. Jobs of rules that never ran here are left
    out.
    """
    known = {**measured, **{job.number: job.last_s for job in jobs if job.last_s is not None}}
    of_rule = defaultdict(list)
    for job in jobs:
        if job.number in known:
            of_rule[job.rule].append(known[job.number])
    means = {rule: sum(each) / len(each) for rule, each in of_rule.items()}
    timed = (job for job in jobs if job.rule in means)
    return {job.number: known.get(job.number, means[job.rule]) for job in timed}


def share_and_left_s(
    jobs: Mapping[int, Job],
    todo: Mapping[int, Job],
    took_s: Mapping[int, float],
    since_s: Mapping[int, float],
    limits: Mapping[str, int],
) -> tuple[float | None, float | None]:
    """Return the completed fraction of the jobs' time, and the seconds left; None if unknown.

    Unknown are both on a cluster, where queueing times are unknown, and if a job never ran here.

    Args:
        jobs: number -> job, for all jobs of the graph.
        todo: those of them that run.
        took_s: number -> seconds, for jobs that have ended in this run.
        since_s: number -> seconds since the start, for running jobs.
        limits: resource -> available amount; empty on a cluster.
    """
    seconds = expected_s(jobs.values(), took_s)
    if not limits or not seconds.keys() >= todo.keys():
        return None, None
    done_s = sum(seconds[n] for n in took_s)
    done_s += sum(min(s, seconds[n]) for n, s in since_s.items())
    last_s = {n: s for n in took_s if (s := todo[n].last_s) is not None}
    pace = STEADY_S + sum(took_s[n] for n in last_s)
    pace /= STEADY_S + sum(last_s.values())
    open_jobs = {n: job for n, job in todo.items() if n not in took_s}
    left = {n: max(pace * seconds[n] - since_s.get(n, 0.0), 0.0) for n in open_jobs}
    share = done_s / max(sum(seconds[n] for n in todo), 1e-6)
    return share, wall_s(open_jobs, left, limits, since_s)


def wall_s(
    jobs: Mapping[int, Job],
    seconds: Mapping[int, float],
    limits: Mapping[str, int],
    running: Collection[int] = (),
) -> float:
    """Simulate the schedule and return the seconds until the last job ends.

    A job starts as soon as its inputs exist and its resources are free.

    Args:
        jobs: number -> job, for jobs that have not ended.
        seconds: number -> seconds; for a running job, the remaining ones.
        limits: resource -> available amount.
        running: numbers of the jobs that have started.
    """
    waits = {number: len(job.needs & jobs.keys()) for number, job in jobs.items()}
    asks = {  # at most the available amount: Snakemake scales threads down
        number: {name: min(n, limits[name]) for name, n in job.asks.items()}
        for number, job in jobs.items()
    }
    rank = {n: (n not in running, -job.priority, n) for n, job in jobs.items()}
    followers = defaultdict(list)
    for number, job in jobs.items():
        for need in job.needs & jobs.keys():
            followers[need].append(number)
    ready = sorted(rank[number] for number, count in waits.items() if not count)
    free, ends, now = dict(limits), list[tuple[float, int]](), 0.0
    while ready or ends:
        held = []
        while ready and free.get("_cores", 1) > 0:
            first = heapq.heappop(ready)
            number = first[-1]
            if any(n > free[name] for name, n in asks[number].items()):
                held.append(first)
                continue
            free.update({name: free[name] - n for name, n in asks[number].items()})
            heapq.heappush(ends, (now + seconds[number], number))
        for first in held:
            heapq.heappush(ready, first)
        now = ends[0][0]
        while ends and ends[0][0] == now:
            _, number = heapq.heappop(ends)
            free.update({name: free[name] + n for name, n in asks[number].items()})
            for follower in followers[number]:
                waits[follower] -= 1
                if not waits[follower]:
                    heapq.heappush(ready, rank[follower])
    return now


def add_run(path: Path, run: Mapping[str, object]) -> None:
    """Append a line to `runs.csv`; a new file gets a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(run))
        if new:
            writer.writeheader()
        writer.writerow(run)


def last_whole_run(path: Path, n_jobs: int) -> dict[str, str] | None:
    """Return the last line of `runs.csv` for a run of all `n_jobs` jobs; None without one."""
    whole = [
        run
        for run in _rows(path)
        if run.get("jobs") == run.get("of") == str(n_jobs)
        and _seconds(run.get("wall_s")) is not None
    ]
    return whole[-1] if whole else None
