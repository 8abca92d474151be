"""`hpro plan`: the table of jobs, hours and bytes."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpro_core.params import Params
from hpro_core.plan.costs import Cost, Hours, checkpoint_bytes, cost_of
from hpro_core.plan.jobs import jobs_of
from hpro_core.plan.speech import Amount, amounts

UNKNOWN = "not measured"
GIGA = 1e9


@dataclass(frozen=True)
class Bill:
    """What a whole run costs.

    Attributes:
        settings: of the run.
        speech: of each corpus; None where its size is not known.
        costs: of each rule.
    """

    settings: Params
    speech: dict[str, Amount | None]
    costs: list[Cost]

    @property
    def jobs(self) -> dict[str, int]:
        """Rule -> jobs."""
        return {cost.job.rule: cost.job.count for cost in self.costs}

    @property
    def disk_bytes(self) -> int:
        """What is known of the bytes, with the checkpoints of the largest training."""
        return sum(cost.stored or 0 for cost in self.costs) + checkpoint_bytes(self.settings)


def bill_of(settings: Params, given: Mapping[str, tuple[float, int]] | None = None) -> Bill:
    """Plan a run; no corpus or weight has to be there.

    Args:
        settings: of the run.
        given: set -> hours and utterances, instead of what is read or published.

    Raises:
        HproError: see `amounts`.
    """
    speech = amounts(settings, given or {})
    return Bill(settings, speech, [cost_of(job, settings, speech) for job in jobs_of(settings)])


def announced(settings: Params) -> None:
    """Say on standard error what a full-size run costs, when Snakemake starts, dry or not.

    A dry run stops where files are missing that the user brings; this was said before.

    Args:
        settings: of the run.
    """
    if settings.policy.preset == "cosyvoice2":
        print("\n".join(described(bill_of(settings))), file=sys.stderr)
        print(
            "Whether all is there that it needs: hpro preflight, with the same --configfile",
            file=sys.stderr,
            flush=True,
        )


def described(bill: Bill) -> Iterator[str]:
    """The lines of the table."""
    settings = bill.settings
    yield f"The whole run {settings.run!r}, seeds {settings.seeds}, from an empty results folder"
    for name, amount in bill.speech.items():
        yield f"  {name}: {_speech_line(amount)}"
    yield _line("phase", "rule", "jobs", "CPU h", "GPU h", "GB")
    for cost in bill.costs:
        job = cost.job
        cells = (_hours(cost.cpu), _hours(cost.gpu), _gigabytes(cost.stored))
        yield _line(job.phase, job.rule, str(job.count), *cells)
    checkpoint = checkpoint_bytes(settings)
    if checkpoint:
        yield _line("", "checkpoints of one training", "", "", "", _gigabytes(checkpoint))
    cpu, gpu = (_sum([getattr(cost, kind) for cost in bill.costs]) for kind in ("cpu", "gpu"))
    n = str(sum(bill.jobs.values()))
    yield _line("", "sum of what is known", n, cpu, gpu, _gigabytes(bill.disk_bytes))
    yield from _left_out(bill)
    yield "CPU h: of one core. GPU h: of one H100. <= at most, >= at least: the measured job was"
    yield "larger or smaller (hpro_core/plan/costs.py, with the source of every unit cost)."
    yield "GB: audio, weights and the largest checkpoint; tables, logs and raw corpora not counted."


def parsed_hours(texts: list[str]) -> dict[str, tuple[float, int]]:
    """Options of the form SET=HOURS:UTTERANCES.

    Raises:
        ValueError: one has another form, or a number that is not above zero.
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
        return "size not known: say --hours SET=HOURS:UTTERANCES"
    counts = f"{amount.test:,} for test, {amount.judge:,} for the judges"
    return f"{amount.hours:.1f} h, {amount.utterances:,} utterances, {counts} ({amount.source})"


def _left_out(bill: Bill) -> Iterator[str]:
    """Which rules a sum lacks: what was not measured is not guessed."""
    for kind, name in (("cpu", "CPU h"), ("gpu", "GPU h"), ("stored", "GB")):
        rules = [cost.job.rule for cost in bill.costs if getattr(cost, kind) is None]
        if rules:
            yield f"not in the sum of {name}: {', '.join(rules)}"


def _sum(costs: list[Hours | None]) -> str:
    """What is known, with a bound only where that is all."""
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
    return f"{phase:<9} {rule:<21} {jobs:>5} {cpu:>13} {gpu:>13} {stored:>13}".rstrip()
