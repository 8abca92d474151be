"""Measured durations of jobs on this machine, and estimates for the remaining jobs.

Snakemake writes a benchmark file per job, and a run without a failure adds a line to `runs.csv`
beside them. These are the only sources: a job that never ran here has no duration.
"""

import csv
import heapq
import io
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MAX_BYTES = 2**20
"""Bytes that are read of a table of durations: about 10,000 rows."""


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


def jobs_of(dag: Any, limits: Collection[str]) -> dict[int, Job]:
    """Return number -> job for all jobs in Snakemake's built graph except target rules.

    `limits` are the names of the resources that limit concurrent jobs.
    """
    jobs = {dag.jobid(job): job for job in dag.jobs if not job.is_norun}
    one_seed = len({job.wildcards_dict.get("seed") for job in jobs.values()} - {None}) < 2
    found = {}
    for number, job in jobs.items():
        wildcards = {k: v for k, v in job.wildcards_dict.items() if not (one_seed and k == "seed")}
        words = (f"seed {v}" if k == "seed" else str(v).strip("/") for k, v in wildcards.items())
        runs = dag.needrun(job)
        # Not `scheduler_resources`, which would cache undetermined values.
        requested = job.resources.items() if runs and limits else ()
        found[number] = Job(
            number=number,
            rule=job.rule.name,
            name=" ".join(filter(None, [job.rule.name, *words])),
            phase=Path(str(job.rule.snakefile)).stem,
            log=str(job.log[0]) if job.log else "",
            last_s=benchmark_s(Path(str(job.benchmark))) if job.benchmark else None,
            needs=frozenset(dag.jobid(need) for need in dag.dependencies[job]),
            asks={name: n for name, n in requested if name in limits and isinstance(n, int)},
            priority=dag.priority(job) if runs else 0,
        )
    return found


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
