"""The three tables of a run, and how far they agree with the paper's orderings."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hpro_core.evaluate.tables import COLUMNS
from hpro_core.io import read_csv_table
from hpro_core.report.paper import CLAIMS, LOWER_IS_BETTER, Claim

TABLES = ("comparison", "progressive", "ablation")

Rows = dict[str, dict[Hashable, Any]]

SAME_APART = "same direction, apart"
SAME = "same direction"
EQUAL = "no difference"
OTHER = "other direction"
OTHER_APART = "other direction, apart"
DIRECTIONS = {
    SAME_APART: "as in the paper, and the two 95 % intervals do not overlap",
    SAME: "as in the paper, and the intervals overlap",
    EQUAL: "the figures are equal",
    OTHER: "against the paper, and the intervals overlap",
    OTHER_APART: "against the paper, and the intervals do not overlap",
}
"""What two figures of a run say of an ordering. Whether it holds is for `claims` to say: intervals
over few seeds are too narrow, and those of one seed know nothing of other trainings."""


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
    direction: str


def read_tables(root: Path) -> dict[str, pd.DataFrame]:
    """Read tables/{comparison,progressive,ablation}.csv.

    Raises:
        HproError: a table is missing, has no rows, or lacks a column.
    """
    return {name: _read_table(root / "tables" / f"{name}.csv") for name in TABLES}


def _read_table(path: Path) -> pd.DataFrame:
    return read_csv_table(path, COLUMNS, ("system", "test_set"), "run `hpro tables`")


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
                towards = direction(claim, better, worse)
                found.append(Reading(claim, test_set, better, worse, towards))
    return found


def by_claim(found: list[Reading]) -> dict[Claim, dict[str, Reading]]:
    """Readings by ordering, then by test set."""
    grouped: dict[Claim, dict[str, Reading]] = {}
    for reading in found:
        grouped.setdefault(reading.claim, {})[reading.test_set] = reading
    return grouped


def direction(claim: Claim, better: Interval, worse: Interval) -> str:
    """Which way two figures with their 95 % intervals point.

    Args:
        claim: the ordering; its metric says which direction is better.
        better: the system that wins in the paper.
        worse: the other one.

    Returns:
        A key of `DIRECTIONS`.
    """
    if claim.metric in LOWER_IS_BETTER:
        better, worse = worse, better
    apart = better.low > worse.high or worse.low > better.high
    if better.value == worse.value:
        return EQUAL
    if better.value > worse.value:
        return SAME_APART if apart else SAME
    return OTHER_APART if apart else OTHER


def summary(found: list[Reading], test_set: str) -> str:
    """The readings of one test set in one sentence."""
    mine = [reading.direction for reading in found if reading.test_set == test_set]
    if not mine:
        return f"On {test_set} this run has no pair of systems that the paper compares."
    n = {towards: mine.count(towards) for towards in DIRECTIONS}
    return (
        f"On {test_set}, of {len(mine)} orderings of the paper {n[SAME_APART] + n[SAME]} point the "
        f"same way here ({n[SAME_APART]} of them with intervals that do not overlap), "
        f"{n[OTHER_APART] + n[OTHER]} the other way ({n[OTHER_APART]}), and {n[EQUAL]} neither."
    )


def _of(rows: Rows, system: str, metric: str) -> Interval:
    row = rows[system]
    return Interval(row[metric], row[f"{metric}_lo"], row[f"{metric}_hi"])
