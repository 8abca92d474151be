"""The text and the JSON of `hpro status`."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hpro_core.plan.curves import LastValue
from hpro_core.plan.live import clock
from hpro_core.plan.status import Status, Training

SHOWN = ("running", "queued", "stopped", "failed", "missing")
"""States of jobs that are named; of the others only the number is shown."""

_NO_BREAK = "\u00a0"


def format_status(status: Status, width: int = 80) -> Iterator[str]:
    """Yield the lines of a status, each at most `width` characters long."""
    done = sum(state == "done" for state in status.states.values())
    yield from _wrapped(f"run {status.run}: {status.about}", width)
    if status.jobs:
        share = f", {100 * status.share:.0f} % of their time" if status.share is not None else ""
        yield from _wrapped(f"{done} of {len(status.jobs)} jobs done{share}{_left(status)}", width)
    for phase, numbers in _phases(status).items():
        yield from _wrapped(_phase_line(status, phase, numbers), width, " " * 23)
    for command, holder in status.by_hand.items():
        yield from _wrapped(f"command under way, started by hand: hpro {command} ({holder})", width)
    for training in status.trainings:
        yield ""
        yield from _wrapped(f"{training.name}{_progress(training)}", width)
        for (split, step), values in _points(_shown(status, training)).items():
            terms = ", ".join(f"{value.term}{_NO_BREAK}{value.value:.4g}" for value in values)
            yield from _wrapped(f"  {split}, step {step}: {terms}", width, "    ")


def status_json(status: Status) -> dict[str, Any]:
    """Return a status as plain values for JSON; a value that is not finite is null."""
    return {
        "run": status.run,
        "state": status.state,
        "about": status.about,
        "jobs_done": sum(state == "done" for state in status.states.values()),
        "jobs": [
            {
                "name": job.name,
                "stage": job.phase,
                "state": status.states[n],
                "running_s": status.since_s.get(n),
                "log": job.log,
            }
            for n, job in status.jobs.items()
        ],
        "done_fraction": status.share,
        "left_s": status.left_s,
        "left_unknown_because": status.unknown or None,
        "commands_by_hand": {name: each._asdict() for name, each in status.by_hand.items()},
        "trainings": [
            {
                "name": training.name,
                "progress": training.progress or None,
                "last": [
                    v._asdict() | {"value": v.value if math.isfinite(v.value) else None}
                    for v in training.values
                ],
            }
            for training in status.trainings
        ],
    }


def _left(status: Status) -> str:
    if status.unknown:
        return f"; time left unknown: {status.unknown}"
    if status.left_s is None:
        return ""
    return f"; about {clock(status.left_s)} left (by times measured here)"


def _phases(status: Status) -> dict[str, list[int]]:
    """Stage -> numbers of its jobs."""
    found = defaultdict(list)
    for number, job in status.jobs.items():
        found[job.phase].append(number)
    return found


def _phase_line(status: Status, phase: str, numbers: list[int]) -> str:
    states = [status.states[n] for n in numbers]
    parts = [
        f"{state}: {', '.join(_named(status, n) for n in numbers if status.states[n] == state)}"
        for state in SHOWN
        if state in states
    ]
    if waiting := states.count("waiting"):
        parts.append(f"{waiting} waiting")
    done = f"{states.count('done')} of {len(numbers)}"
    return f"  {phase:<11}{done:>9}  {'; '.join(parts) or 'done'}"


def _named(status: Status, number: int) -> str:
    since = status.since_s.get(number)
    name = status.jobs[number].name
    return name if since is None else f"{name} ({clock(since)})"


def _progress(training: Training) -> str:
    """The progress line of a job without its label: "8/12 (67 %), 0.2/s, 20 s left"."""
    return f": {training.progress.rpartition(': ')[2]}" if training.progress else ""


def _shown(status: Status, training: Training) -> list[LastValue]:
    """Values for the terminal: those on dev only if no job runs or was stopped."""
    if not status.jobs or set(status.states.values()) & set(SHOWN):
        return training.values
    return [value for value in training.values if value.split == "dev"]


def _points(values: list[LastValue]) -> dict[tuple[str, int], list[LastValue]]:
    """Split and step -> their last values."""
    found = defaultdict(list)
    for value in values:
        found[value.split, value.step].append(value)
    return found


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]
