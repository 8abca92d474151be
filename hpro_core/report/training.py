"""Trainings of a run: their curves, gradient shares, warnings, and what judges say of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hpro_core.analysis.reward_vs_judges import JUDGED_BY, TERM_NAMES
from hpro_core.analysis.statistics import Interval
from hpro_core.analysis.tables import BASELINE
from hpro_core.io import check_type, read_json
from hpro_core.report.comparison import verdict
from hpro_core.report.figures import Curves, Plot, training_curves


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics of one reward training."""

    system: str
    seed: int
    shares: dict[str, float]  # term -> share of the gradient before the first step
    kept_step: int | None  # if judges chose it
    warnings: list[str]


@dataclass(frozen=True)
class TermCheck:
    """A reward term on dev, and the judges' metric of the same property on test."""

    system: str
    term: str
    change: float  # of the term on dev, from the start of the path; lower is better
    test_set: str
    metric: str
    difference: Interval  # system minus baseline
    verdict: str

    @property
    def suspicious(self) -> bool:
        """The term improved, and the judges' mean became worse."""
        return self.change < 0 and not self.judge_agrees

    @property
    def judge_agrees(self) -> bool:
        """Whether the judges' mean is better than the baseline's, whatever its interval."""
        return (self.difference.value < 0) == (self.metric == "wer")


def reward_diagnostics(
    root: Path, systems: Iterable[str], seeds: Iterable[int]
) -> list[Diagnostics]:
    """Read the diagnostics of each reward training; systems without one are skipped.

    Raises:
        HproError: a file is invalid.
    """
    found = []
    for system in systems:
        for seed in seeds:
            path = root / "policy" / system / f"seed{seed}" / "gradient_norms.json"
            if not path.is_file():
                continue
            again = f"delete {path.parent} and run Snakemake again"
            shares, warnings = _gradient_shares(path, again)
            kept_step, alarms = _probe_results(path.with_name("metrics.json"), again)
            found.append(Diagnostics(system, seed, shares, kept_step, [*warnings, *alarms]))
    return found


def _gradient_shares(path: Path, again: str) -> tuple[dict[str, float], list[str]]:
    """Gradient share of each term before the first step, and warnings."""
    stored = read_json(path, again)
    terms = check_type(stored.get("terms"), dict[str, dict[str, float]], f"{path}, terms", again)
    shares = {name: values.get("share") for name, values in terms.items()}
    warnings = check_type(stored.get("warnings"), list[str], f"{path}, warnings", again)
    return check_type(shares, dict[str, float], f"{path}, share", again), warnings


def _probe_results(path: Path, again: str) -> tuple[int | None, list[str]]:
    """The kept step if judges chose it, else None; and the alarms during training."""
    stored = read_json(path, again) if path.is_file() else {}
    kept, alarms = stored.get("kept_step"), stored.get("alarms", {})
    alarms = check_type(alarms, dict[str, str], f"{path}, alarms", again)
    if kept is not None:
        kept = check_type(kept, int, f"{path}, kept_step", again)
    return kept, [f"step {step}: {reason}" for step, reason in alarms.items()]


def path_of(system: str, starts: Mapping[str, str]) -> list[str]:
    """Return the reward trainings that lead to a policy, in order, without the baseline."""
    path: list[str] = []
    while system in starts and system not in path:
        path.insert(0, system)
        system = starts[system]
    return path


def path_plots(path: Sequence[str], curves: Mapping[str, Curves]) -> list[Plot]:
    """Plot the terms of consecutive reward trainings over all their steps."""
    known = [curves[f"policy/{name}"] for name in path if f"policy/{name}" in curves]
    return training_curves(known) if known else []


def term_checks(
    starts: Mapping[str, str], curves: Mapping[str, Curves], differences: pd.DataFrame
) -> list[TermCheck]:
    """Compare the change of each reward term on dev with the judges' metric on test.

    The change is from the first dev value of the path's first training to the last of the system's,
    mean over seeds. Terms without a judge and test sets whose metric is withheld have no row.
    """
    found = []
    for system in starts:
        path = [f"policy/{name}" for name in path_of(system, starts)]
        if not all(name in curves for name in path):
            continue
        for term, metric in JUDGED_BY.items():
            before, after = _dev(curves[path[0]], term, 0), _dev(curves[path[-1]], term, -1)
            if before is None or after is None:
                continue
            chosen = differences[
                (differences["system"] == system) & (differences["metric"] == metric)
            ]
            for row in chosen.to_dict("records"):
                gap = Interval(row[f"above_{BASELINE}"], row["lo"], row["hi"])
                found.append(
                    TermCheck(
                        system=system,
                        term=TERM_NAMES[term],
                        change=after - before,
                        test_set=row["test_set"],
                        metric=metric,
                        difference=gap,
                        verdict=verdict(metric, gap),
                    )
                )
    return found


def _dev(curves: Curves, term: str, place: int) -> float | None:
    """First (0) or last (-1) value of a term on dev, mean over seeds; None without any."""
    values = []
    for table in curves.tables:
        rows = table[(table["split"] == "dev") & (table["term"] == term)].sort_values("step")
        if len(rows):
            values.append(float(rows["value"].iloc[place]))
    return sum(values) / len(values) if values else None
