"""`hpro plan`: prints the table of jobs, hours and bytes of a run."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpro_core.params import Params
from hpro_core.plan.costs import Cost, Hours, checkpoint_bytes, cost_of
from hpro_core.plan.jobs import Job, jobs_of, jobs_of_workflow
from hpro_core.plan.speech import Amount, amounts

UNKNOWN = "not measured"
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


def format_costs(table: CostTable) -> Iterator[str]:
    """Yield the lines of the table."""
    settings = table.settings
    yield f"The whole run {settings.run!r}, seeds {settings.seeds}, from an empty results folder"
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
    n = str(sum(table.jobs.values()))
    yield _line("", "sum of known costs", n, cpu, gpu, _gigabytes(table.disk_bytes))
    yield from _left_out(table)
    yield "CPU h: of one core. GPU h: of one H100. <= at most, >= at least: the measured job was"
    yield "larger or smaller (hpro_core/plan/costs.py has the source of every unit cost)."
    yield "GB: audio, weights and the largest checkpoint, without tables, logs and raw corpora."


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
    """Yield the rules that a sum excludes because they were not measured."""
    for kind, name in (("cpu", "CPU h"), ("gpu", "GPU h"), ("stored", "GB")):
        rules = [cost.job.rule for cost in table.costs if getattr(cost, kind) is None]
        if rules:
            yield f"not in the sum of {name}: {', '.join(rules)}"


def _sum(costs: list[Hours | None]) -> str:
    """Sum of the known hours; it has a bound only if all hours are known."""
    known = [hours for hours in costs if hours is not None]
    bounds = {hours.bound for hours in known} - {""} if len(known) == len(costs) else set()
    bound = bounds.pop() if len(bounds) == 1 else "about" if bounds else ""
    return f"{bound} {sum(hours.value for hours in known):.1f}".strip()


def _hours(hours: Hours | None) -> str:
    if hours is None:
        return UNKNOWN
    return f"{hours.bound} {hours.value:.1f}".strip() if hours.value else "-"


def _gigabytes(stored: int | None) -> str:
    if stored is None:
        return UNKNOWN
    return f"{stored / GIGA:.1f}" if stored else "-"


def _line(phase: str, rule: str, jobs: str, cpu: str, gpu: str, stored: str) -> str:
    return f"{phase:<10} {rule:<21} {jobs:>5} {cpu:>13} {gpu:>13} {stored:>13}".rstrip()
