"""`hpro plan`: prints the table of jobs, hours and bytes of a run."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpro_core.params import Params
from hpro_core.plan import durations
from hpro_core.plan.costs import Cost, Hours, checkpoint_bytes, cost_of
from hpro_core.plan.jobs import Job, jobs_of, jobs_of_workflow
from hpro_core.plan.speech import Amount, amounts

UNKNOWN = "unknown"
GIGA = 1e9


@dataclass(frozen=True)
class CostTable:
    """Cost of a whole run.

    Attributes:
        settings: settings of the run.
        speech: amount of speech of each corpus; None if its size is unknown.
        costs: cost of each rule.
    """

    settings: Params
    speech: dict[str, Amount | None]
    costs: list[Cost]

    @property
    def jobs(self) -> dict[str, int]:
        """Rule -> number of jobs."""
        return {cost.job.rule: cost.job.count for cost in self.costs}

    @property
    def disk_bytes(self) -> int:
        """Sum of the known bytes, with the checkpoints of the largest training."""
        return sum(cost.stored or 0 for cost in self.costs) + checkpoint_bytes(self.settings)


def estimate_costs(
    settings: Params,
    given: Mapping[str, tuple[float, int]] | None = None,
    jobs: Sequence[Job] | None = None,
) -> CostTable:
    """Estimate the cost of a run; no corpus or weight file is needed.

    Args:
        settings: settings of the run.
        given: set -> hours and utterances, in place of read or published figures.
        jobs: jobs of the run; None starts Snakemake to count them.

    Raises:
        HproError: as `amounts` and `jobs_of`.
    """
    speech = amounts(settings, given or {})
    jobs = jobs_of(settings) if jobs is None else jobs
    return CostTable(settings, speech, [cost_of(job, settings, speech) for job in jobs])


def print_costs(settings: Params, workflow: Any) -> None:
    """Print the cost of a full-size run on standard error when Snakemake starts.

    It is printed before a dry run stops at missing files of the user.

    Args:
        settings: settings of the run.
        workflow: Snakemake's workflow, at the end of the Snakefile.
    """
    if settings.policy.preset == "cosyvoice2":
        table = estimate_costs(settings, jobs=jobs_of_workflow(workflow))
        print("\n".join(format_costs(table)), file=sys.stderr)
        print(
            "To check that all required files exist: hpro preflight, with the same --configfile",
            file=sys.stderr,
            flush=True,
        )


def format_costs(
    table: CostTable, graph: Mapping[int, durations.Job] | None = None, cores: int = 1
) -> Iterator[str]:
    """Yield the lines of the table.

    Args:
        table: cost of the run.
        graph: number -> job, see `jobs.Listing`, for the time that this machine is expected to
            need; None leaves that out.
        cores: number of cores of this machine.
    """
    settings = table.settings
    unknown = [cost for cost in table.costs if None in (cost.cpu, cost.gpu)]
    bounded = [cost for cost in table.costs if cost not in unknown and _has_lower_bound(cost)]
    n = len(unknown) + len(bounded)
    incomplete = f"; incomplete: {n} of {len(table.costs)} rules" if n else ""
    title = f"The whole run {settings.run!r}, seeds {settings.seeds}, from an empty results folder"
    yield f"{title}{incomplete}"
    if n:
        yield (
            f"  not measured at this size: {len(bounded)} rules with a lower bound, "
            f"{len(unknown)} unknown"
        )
    yield from () if graph is None else format_expectation(graph, settings.run, cores)
    for name, amount in table.speech.items():
        yield f"  {name}: {_speech_line(amount)}"
    yield _line("phase", "rule", "jobs", "CPU h", "GPU h", "GB")
    for cost in table.costs:
        job = cost.job
        cells = (_hours(cost.cpu), _hours(cost.gpu), _gigabytes(cost.stored))
        yield _line(job.phase, job.rule, str(job.count), *cells)
    checkpoint = checkpoint_bytes(settings)
    if checkpoint:
        yield _line("", "checkpoints of one training", "", "", "", _gigabytes(checkpoint))
    cpu, gpu = (_sum([getattr(cost, kind) for cost in table.costs]) for kind in ("cpu", "gpu"))
    jobs = str(sum(table.jobs.values()))
    yield _line("", "sum of known costs", jobs, cpu, gpu, _gigabytes(table.disk_bytes))
    yield from _left_out(table)
    yield "h:mm. CPU h: of one core. GPU h: of one H100. <= at most, >= at least: the measured job"
    yield "was larger or smaller (hpro_core/plan/costs.py has the source of every unit cost)."
    yield "GB: audio, weights and the largest checkpoint, without tables, logs and raw corpora."


def _has_lower_bound(cost: Cost) -> bool:
    return ">=" in {hours.bound for hours in (cost.cpu, cost.gpu) if hours is not None}


def format_expectation(graph: Mapping[int, durations.Job], run: str, cores: int) -> Iterator[str]:
    """Yield what the benchmark files of this machine say about a run from an empty folder.

    Args:
        graph: number -> job, see `jobs.Listing`.
        run: name of the run, whose folder in benchmarks/ is read.
        cores: number of cores of this machine.
    """
    seconds = durations.expected_s(graph.values(), {})
    if not seconds:
        yield f"  on this machine: unknown, no job is measured in benchmarks/{run}"
        return
    known = {n: graph[n] for n in seconds}
    total, wall = sum(seconds.values()), durations.wall_s(known, seconds, {"_cores": cores})
    missing = dict.fromkeys(job.rule for n, job in graph.items() if n not in known)
    at_least = "at least " if missing else ""
    lacking = f"incomplete: {len(known)} of {len(graph)} jobs measured; " if missing else ""
    yield (
        f"  on this machine: {lacking}{at_least}{hours_minutes(wall / 3600)} on {cores} cores, "
        f"{hours_minutes(total / 3600)} one after another (h:mm, by benchmarks/{run})"
    )
    if missing:
        yield f"    never ran here: {', '.join(missing)}"
    last = durations.last_whole_run(Path("benchmarks", run, "runs.csv"), len(graph))
    if last:
        hours = hours_minutes(float(last["wall_s"]) / 3600)
        where = f" on {last['cores']} cores" if last.get("cores") else ""
        yield f"    the last run of all {len(graph)} jobs took {hours}{where} ({last['date'][:10]})"


def hours_minutes(hours: float) -> str:
    """Format hours as 1:05; less than half a minute as <0:01."""
    minutes = round(60 * hours)
    if hours and not minutes:
        return "<0:01"
    return f"{minutes // 60:,}:{minutes % 60:02}"


def parse_hours(texts: list[str]) -> dict[str, tuple[float, int]]:
    """Parse options of the form SET=HOURS:UTTERANCES: set -> hours and utterances.

    Raises:
        ValueError: an option has another form, or a number is not above zero.
    """
    found = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        hours, _, utterances = numbers.partition(":")
        found[name] = (float(hours), int(utterances))
        if min(found[name]) <= 0:
            raise ValueError(f"{text}: not above zero")
    return found


def _speech_line(amount: Amount | None) -> str:
    if amount is None:
        return "size unknown: set --hours SET=HOURS:UTTERANCES"
    counts = f"{amount.test:,} for test, {amount.judge:,} for the judges"
    return f"{amount.hours:.1f} h, {amount.utterances:,} utterances, {counts} ({amount.source})"


def _left_out(table: CostTable) -> Iterator[str]:
    """Yield the rules that a sum excludes because nothing comparable was measured."""
    for kind, name in (("cpu", "CPU h"), ("gpu", "GPU h"), ("stored", "GB")):
        rules = [cost.job.rule for cost in table.costs if getattr(cost, kind) is None]
        if rules:
            yield f"not in the sum of {name}: {', '.join(rules)}"


def _sum(costs: list[Hours | None]) -> str:
    """Sum of the known hours with its bound: ">=" also where a part is missing.

    With an upper bound in it, an incomplete sum has no bound, and a complete one may be "about".
    """
    known = [hours for hours in costs if hours is not None]
    bounds = {hours.bound for hours in known} - {""}
    bound = bounds.pop() if len(bounds) == 1 else "about" if bounds else ""
    if len(known) < len(costs):
        bound = ">=" if bound in ("", ">=") else ""
    return f"{bound} {hours_minutes(sum(hours.value for hours in known))}".strip()


def _hours(hours: Hours | None) -> str:
    if hours is None:
        return UNKNOWN
    return f"{hours.bound} {hours_minutes(hours.value)}".strip() if hours.value else "-"


def _gigabytes(stored: int | None) -> str:
    if stored is None:
        return UNKNOWN
    return f"{stored / GIGA:.1f}" if stored else "-"


def _line(phase: str, rule: str, jobs: str, cpu: str, gpu: str, stored: str) -> str:
    return f"{phase:<10} {rule:<21} {jobs:>5} {cpu:>13} {gpu:>13} {stored:>13}".rstrip()
