"""How long the jobs of a run took on this machine before, and how long those to do will take.

Snakemake leaves a benchmark file per job, and a run without a failure adds a line to `runs.csv`
beside them. Nothing else is known of durations: a job that never ran here has none.
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

_MOST_BYTES = 2**20
"""Of a table of durations: some 10,000 rows."""


@dataclass(frozen=True)
class Job:
    """A job of Snakemake's graph.

    Attributes:
        number: Snakemake's job id.
        rule: name of its rule.
        name: rule and wildcards, for the reader.
        phase: name of the rule file.
        log: path of its log; empty without one.
        last_s: seconds that it took when it last ran here; None where it never did.
        needs: numbers of the jobs whose outputs it reads.
        asks: resource -> amount, cores as `_cores`.
        priority: a larger one starts first.
    """

    number: int
    rule: str
    name: str
    phase: str
    log: str = ""
    last_s: float | None = None
    needs: frozenset[int] = frozenset()
    asks: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0


def jobs_of(dag: Any, limits: Collection[str]) -> dict[int, Job]:
    """Number -> job, of all in Snakemake's graph but mere targets, whether they are to run or not.

    Args:
        dag: Snakemake's, built.
        limits: names of the resources that decide what runs side by side.
    """
    jobs = {dag.jobid(job): job for job in dag.jobs if not job.is_norun}
    one_seed = len({job.wildcards_dict.get("seed") for job in jobs.values()} - {None}) < 2
    found = {}
    for number, job in jobs.items():
        wildcards = {k: v for k, v in job.wildcards_dict.items() if not (one_seed and k == "seed")}
        words = (f"seed {v}" if k == "seed" else str(v).strip("/") for k, v in wildcards.items())
        runs = dag.needrun(job)
        # Not `scheduler_resources`, which would keep what is not determined yet.
        asked = job.resources.items() if runs and limits else ()
        found[number] = Job(
            number=number,
            rule=job.rule.name,
            name=" ".join(filter(None, [job.rule.name, *words])),
            phase=Path(str(job.rule.snakefile)).stem,
            log=str(job.log[0]) if job.log else "",
            last_s=benchmark_s(Path(str(job.benchmark))) if job.benchmark else None,
            needs=frozenset(dag.jobid(need) for need in dag.dependencies[job]),
            asks={name: n for name, n in asked if name in limits and isinstance(n, int)},
            priority=dag.priority(job) if runs else 0,
        )
    return found


def benchmark_s(path: Path) -> float | None:
    """Seconds of wall time in a benchmark file of Snakemake.

    None where there are none: the job was not measured, or the file was cut off by a kill.
    """
    rows = _rows(path, "\t")
    return _seconds(rows[-1].get("s")) if rows else None


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table of durations; none where it is missing or was cut off by a kill.

    Of a file that is far too large for one, only the first part is read.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES).decode("utf-8", "replace").replace("\0", "")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def _seconds(text: str | None) -> float | None:
    """A duration, or None where the text is none."""
    found = re.fullmatch(r"\d+(\.\d*)?([eE][+-]?\d+)?", text or "")
    return float(found.group()) if found else None


def expected_s(jobs: Collection[Job], measured: Mapping[int, float]) -> dict[int, float]:
    """Seconds of each job: what it took last, else in this run, else the mean of its rule.

    Args:
        jobs: of the whole graph.
        measured: number of a job that has ended in this run -> its seconds.

    Returns:
        Number -> seconds, without the jobs of rules that never ran here.
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
    """Seconds until the last job ends, if each starts once its needs are there and it fits.

    Args:
        jobs: number -> job, those that have not ended.
        seconds: of each; of a running one, what is left.
        limits: resource -> amount.
        running: numbers of those that have started.
    """
    waits = {number: len(job.needs & jobs.keys()) for number, job in jobs.items()}
    asks = {  # at most what there is: Snakemake scales threads down
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
    """Append a line to `runs.csv`, with the names of the values above the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(run))
        if new:
            writer.writeheader()
        writer.writerow(run)


def last_whole_run(path: Path, of: int) -> dict[str, str] | None:
    """The last line of `runs.csv` for a run of all of so many jobs; None where there is none."""
    whole = [
        run
        for run in _rows(path)
        if run.get("jobs") == run.get("of") == str(of) and _seconds(run.get("wall_s")) is not None
    ]
    return whole[-1] if whole else None
