"""The first screen of the report: paired differences of the proposed policy from its baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpro_core.analysis.scores import BROUGHT_METRICS, PROSODY_METRICS, SPEECH_METRICS
from hpro_core.analysis.statistics import COVERAGE, Interval
from hpro_core.analysis.tables import BASELINE
from hpro_core.errors import HproError
from hpro_core.io import check_type, read_csv_table, read_json, read_text
from hpro_core.params import SEEDLESS
from hpro_core.report.figures import METRIC_NAMES, PERCENT, Plot, scaled, style_of
from hpro_core.report.svg import Panel

PROPOSED = "hpro"
"""The policy of all reward stages."""

LOWER_IS_BETTER = ("wer", "wer_check")
TOKEN_CEILING = "tokenrecon"
DIFFERENCE_COLUMNS = ("system", "test_set", "metric", "n", f"above_{BASELINE}", "lo", "hi")

BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Difference:
    """One metric of a policy and of its baseline on a test set."""

    metric: str
    n: int  # utterances that both have
    system: Interval
    baseline: Interval
    difference: Interval  # system minus baseline, paired by utterance
    floor: float  # NaN if no floor was measured
    ceiling: float  # of speech decoded from the tokens of the recording; NaN without it
    recordings: float  # NaN without them
    verdict: str  # BETTER, WORSE or NOT_SHOWN

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.verdict != NOT_SHOWN


@dataclass(frozen=True)
class Comparison:
    """A policy against its baseline on one test set."""

    test_set: str
    system: str
    baseline: str
    seeds: int
    rows: list[Difference]
    sentence: str
    plots: list[Plot]

    def of(self, metric: str) -> Difference | None:
        """Return the difference in a metric; None if it was not judged."""
        return next((row for row in self.rows if row.metric == metric), None)


def read_differences(root: Path) -> pd.DataFrame:
    """Read tables/differences.csv; it has no rows in a run without the baseline.

    Raises:
        HproError: the table is missing or lacks a column.
    """
    path, hint = root / "tables" / "differences.csv", "run `hpro tables`"
    if len(read_text(path, hint).splitlines()) == 1:
        return pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))
    return read_csv_table(path, DIFFERENCE_COLUMNS, DIFFERENCE_COLUMNS[:3], hint)


def compared_system(tables: Mapping[str, pd.DataFrame], external: Sequence[str]) -> str | None:
    """Choose the policy of the first screen: PROPOSED, or the last policy of the tables.

    None if the run has no baseline or no other policy.
    """
    names = list(dict.fromkeys(name for table in tables.values() for name in table["system"]))
    policies = [name for name in names if name not in (*SEEDLESS, BASELINE, *external)]
    if BASELINE not in names or not policies:
        return None
    return PROPOSED if PROPOSED in policies else policies[-1]


def compare(
    system: str,
    rows: pd.DataFrame,
    differences: pd.DataFrame,
    test_set: str,
    floors: Mapping[str, Mapping[str, float]],
) -> Comparison:
    """Compare a policy with its baseline on one test set.

    Args:
        system: name of the policy.
        rows: the results of all systems on all test sets, each once.
        differences: tables/differences.csv.
        test_set: name of the test set.
        floors: as `read_floors` returns them.

    Raises:
        HproError: differences.csv and the other tables do not fit together.
    """
    own = {row["system"]: row for row in rows[rows["test_set"] == test_set].to_dict("records")}
    chosen = differences[(differences["system"] == system) & (differences["test_set"] == test_set)]
    found, order = [], [*SPEECH_METRICS, *PROSODY_METRICS, *BROUGHT_METRICS]
    for row in chosen.to_dict("records"):
        metric = str(row["metric"])
        if metric not in order or not {system, BASELINE} <= own.keys() or metric not in rows:
            raise HproError(
                f"tables/differences.csv has {system}, {test_set}, {metric}, which the other "
                "tables lack: run `hpro tables`"
            )
        gap = Interval(row[f"above_{BASELINE}"], row["lo"], row["hi"])
        found.append(
            Difference(
                metric=metric,
                n=int(row["n"]),
                system=_interval(own[system], metric),
                baseline=_interval(own[BASELINE], metric),
                difference=gap,
                floor=floors.get(test_set, {}).get(metric, math.nan),
                ceiling=_value(own, TOKEN_CEILING, metric),
                recordings=_value(own, "recordings", metric),
                verdict=verdict(metric, gap),
            )
        )
    found.sort(key=lambda each: order.index(each.metric))
    seeds = int(own[system]["seeds"]) if system in own else 0
    return Comparison(
        test_set=test_set,
        system=system,
        baseline=BASELINE,
        seeds=seeds,
        rows=found,
        sentence=sentence(test_set, system, found, seeds),
        plots=[
            pair_plot(each, [(name, style_of(name)) for name in (system, BASELINE)])
            for each in found
        ],
    )


def verdict(metric: str, gap: Interval) -> str:
    """Interpret a paired difference by its interval alone: BETTER, WORSE or NOT_SHOWN."""
    if not (gap.lo > 0 or gap.hi < 0):
        return NOT_SHOWN
    return BETTER if (gap.value < 0) == (metric in LOWER_IS_BETTER) else WORSE


def headline(comparisons: Sequence[Comparison]) -> str:
    """Summarise all test sets in a sentence, for the number of seeds of the run."""
    first = comparisons[0]
    pair = f"{first.system} and {first.baseline}"
    every = [row for each in comparisons for row in each.rows]
    apart = sum(row.shown for row in every)
    if first.seeds <= 1:
        return (
            f"No difference between {pair} is shown: there is one training seed. "
            f"{len(every) - apart} of the {len(every)} intervals below include zero, and none "
            "includes the variation between trainings."
        )
    if not apart:
        return f"No difference between {pair} is shown with {first.seeds} seeds."
    return (
        f"{apart} of {len(every)} paired differences between {pair} have an interval without zero "
        f"({first.seeds} seeds), before any correction for the number of comparisons."
    )


def expected_by_chance(comparisons: Sequence[Comparison]) -> tuple[int, float]:
    """Number of intervals, and how many exclude zero on average if nothing differs."""
    n = sum(len(each.rows) for each in comparisons)
    return n, n * (1 - COVERAGE)


def read_floors(path: Path) -> dict[str, dict[str, float]]:
    """Read the floors of metrics from judge/metrics.json: test set -> metric -> value.

    The floor of an affect metric is its value for the recording of another sentence.

    Raises:
        HproError: the file is missing or has values of another kind.
    """
    hint = "run `hpro judge-recordings`"
    kind = dict[str, dict[str, float | None]]
    stored = check_type(read_json(path, hint).get("floor", {}), kind, f"{path}, floor", hint)
    return {
        test_set: {name: value for name, value in values.items() if value is not None}
        for test_set, values in stored.items()
    }


def sentence(test_set: str, system: str, rows: Sequence[Difference], seeds: int) -> str:
    """Say which paired differences of a system on a test set exclude zero."""
    if not rows:
        return f"On {test_set}, no metric was judged for both."
    apart = [row for row in rows if row.shown]
    n = max(row.n for row in rows)
    start = f"On {test_set} ({n} sentences), "
    if not apart:
        return f"{start}all {len(rows)} paired intervals include zero: no difference shown."
    names = ", ".join(
        f"{METRIC_NAMES[row.metric].rstrip(' ↓↑')} ({system} {row.verdict}"
        f"{f', n = {row.n}' if row.n < n else ''})"
        for row in apart
    )
    said = f"{start}{len(apart)} of {len(rows)} paired intervals "
    said += f"{'exclude' if len(apart) > 1 else 'excludes'} zero: {names}."
    said += _recognisers(rows)
    if seeds <= 1:
        said += " With one seed this describes these two trainings, not the methods."
    return said


def _recognisers(rows: Sequence[Difference]) -> str:
    """Say so if one recogniser shows a difference in WER that the other does not."""
    wer = [row for row in rows if row.metric in LOWER_IS_BETTER]
    if sum(row.shown for row in wer) != 1 or len(wer) < len(LOWER_IS_BETTER):
        return ""
    first, second = (row.difference.value for row in wer)
    other = "; that of the other has the opposite sign" if first * second < 0 else ""
    return f" Only one of the two recognisers shows a difference in WER{other}."


def pair_plot(row: Difference, names: Sequence[tuple[str, str]]) -> Plot:
    """Plot both values with their intervals, and their difference, between floor and ceilings.

    The difference is drawn from the mean of the baseline on: where it does not reach that mean, its
    interval excludes zero.

    Args:
        row: the difference.
        names: name and class of the colour, of the system and of the baseline.
    """
    metric = row.metric

    def in_unit(interval: Interval) -> list[float]:
        return [scaled(metric, value) for value in interval]

    lines = [("floor", row.floor), ("ceiling", row.ceiling), ("recordings", row.recordings)]
    values = [in_unit(row.system), in_unit(row.baseline)]
    limits = [scaled(metric, value) for _, value in lines]
    zero = values[1][0]
    gap, low_gap, high_gap = (zero + end for end in in_unit(row.difference))
    panel = Panel(
        x=[*limits, *values[0], *values[1], low_gap, high_gap],
        y=[-0.7, 2.7],
        height=100,
        left=52,
        numbered=False,
    )
    for (style, _), value in zip(lines, limits, strict=True):
        panel.mark(value, f"limit {style}", f"{LIMITS[style]}: {value:.3g}")
    panel.mark(zero, f"zero {names[1][1]}", f"mean of {names[1][0]}: the difference is zero here")
    for height, (name, style), (value, low, high) in zip((2, 1), names, values, strict=True):
        panel.label_row(height, name[:8])
        panel.bar(low, high, height, style)
        panel.dot(value, height, style, f"{name}: {value:.3g} [{low:.3g}, {high:.3g}]")
    panel.label_row(0, "paired")
    panel.bar(low_gap, high_gap, 0, names[0][1])
    panel.dot(gap, 0, names[0][1], f"paired difference: {signed(metric, row.difference)}")
    said = ", ".join(
        [f"{name} {value[0]:.3g}" for (name, _), value in zip(names, values, strict=True)]
        + [f"{LIMITS[n]} {v:.3g}" for (n, _), v in zip(lines, limits, strict=True) if v == v]
    )
    gap_said = f"difference {signed(metric, row.difference)}: {row.verdict}"
    label = f"{METRIC_NAMES[metric]}: {said}; {gap_said}"
    return Plot(f"{METRIC_NAMES[metric]}, n = {row.n}: {row.verdict}", panel.render(label))


LIMITS = {
    "floor": "floor",
    "ceiling": "tokens of the recording, decoded",
    "recordings": "recordings",
}


def signed(metric: str, gap: Interval) -> str:
    """Format a difference with its sign and interval, WER in points of percent."""
    digits = 1 if metric in PERCENT else 3
    value, low, high = (f"{scaled(metric, end):+.{digits}f}" for end in gap)
    return f"{value} [{low}, {high}]"


def _interval(row: Mapping[Any, Any], metric: str) -> Interval:
    return Interval(*(float(row[metric + end]) for end in ("", "_lo", "_hi")))


def _value(own: Mapping[str, Mapping[Any, Any]], system: str, metric: str) -> float:
    return float(own[system][metric]) if system in own else math.nan
