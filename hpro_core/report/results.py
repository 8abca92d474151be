"""The three tables of a run, and how far they agree with the paper's orderings."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hpro_core.errors import HproError
from hpro_core.evaluate.tables import COLUMNS
from hpro_core.report.paper import CLAIMS, LOWER_IS_BETTER, Claim

TABLES = ("comparison", "progressive", "ablation")

Rows = dict[str, dict[Hashable, Any]]

HOLDS = "holds"
LIKELY = "same direction"
UNLIKELY = "other direction"
FAILS = "does not hold"
VERDICTS = {
    HOLDS: "as in the paper, and the 95 % intervals do not overlap",
    LIKELY: "as in the paper, but the intervals overlap: not shown by this run",
    UNLIKELY: "against the paper, but the intervals overlap: not shown by this run",
    FAILS: "against the paper, and the intervals do not overlap",
}


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


class Reading(NamedTuple):
    """One ordering of the paper, looked up in this run."""

    claim: Claim
    test_set: str
    better: Interval
    worse: Interval
    verdict: str


def read_tables(root: Path) -> dict[str, pd.DataFrame]:
    """Read tables/{comparison,progressive,ablation}.csv.

    Raises:
        HproError: a table is missing, has no rows, or lacks a column.
    """
    return {name: _read_table(root / "tables" / f"{name}.csv") for name in TABLES}


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise HproError(f"{path} does not exist: run `hpro tables` first")
    table = pd.read_csv(path, dtype={"system": str, "test_set": str, "seeds": str})
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing or table.empty:
        what = f"lacks column {missing[0]!r}" if missing else "has no rows"
        raise HproError(f"{path} {what}: run `hpro tables` again")
    return table


def systems_of(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Every system once, in the order of the tables."""
    return list(dict.fromkeys(name for t in tables.values() for name in t["system"]))


def test_sets_of(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Every test set once, in the order of the tables."""
    return list(dict.fromkeys(name for t in tables.values() for name in t["test_set"]))


def readings(tables: dict[str, pd.DataFrame]) -> list[Reading]:
    """Look up every ordering of the paper for which this run has both systems."""
    found = []
    for claim in CLAIMS:
        table = tables[claim.table]
        for test_set in dict.fromkeys(table["test_set"]):
            part = table[table["test_set"] == test_set]
            rows = {row["system"]: row for row in part.to_dict("records")}
            if claim.better in rows and claim.worse in rows:
                better = _of(rows, claim.better, claim.metric)
                worse = _of(rows, claim.worse, claim.metric)
                found.append(Reading(claim, test_set, better, worse, verdict(claim, better, worse)))
    return found


def by_claim(found: list[Reading]) -> dict[Claim, dict[str, Reading]]:
    """Readings by ordering, then by test set."""
    grouped: dict[Claim, dict[str, Reading]] = {}
    for reading in found:
        grouped.setdefault(reading.claim, {})[reading.test_set] = reading
    return grouped


def verdict(claim: Claim, better: Interval, worse: Interval) -> str:
    """Whether an ordering holds, by two means with their 95 % intervals.

    Intervals that do not overlap are a stricter demand than a paired test at 5 %.

    Args:
        claim: the ordering; its metric says which direction is better.
        better: the system that wins in the paper.
        worse: the other one.

    Returns:
        A key of `VERDICTS`.
    """
    if claim.metric in LOWER_IS_BETTER:
        better, worse = worse, better
    apart = better.low > worse.high or worse.low > better.high
    if better.value > worse.value:
        return HOLDS if apart else LIKELY
    return FAILS if apart else UNLIKELY


def summary(found: list[Reading], test_set: str) -> str:
    """The readings of one test set in one sentence."""
    mine = [reading.verdict for reading in found if reading.test_set == test_set]
    if not mine:
        return f"On {test_set} this run has no pair of systems that the paper compares."
    n = {verdict: mine.count(verdict) for verdict in VERDICTS}
    return (
        f"On {test_set}, of {len(mine)} orderings of the paper {n[HOLDS]} "
        f"{'holds' if n[HOLDS] == 1 else 'hold'}, {n[LIKELY]} point the same way within the "
        f"intervals, {n[UNLIKELY]} point the other way within the intervals, and {n[FAILS]} "
        f"{'is' if n[FAILS] == 1 else 'are'} contradicted."
    )


def _of(rows: Rows, system: str, metric: str) -> Interval:
    row = rows[system]
    return Interval(row[metric], row[f"{metric}_lo"], row[f"{metric}_hi"])
