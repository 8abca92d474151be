"""The three tables of a run, compared with the paper's orderings."""

import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hpro_core.analysis.statistics import Interval
from hpro_core.analysis.tables import COLUMNS
from hpro_core.io import read_csv_table, read_text
from hpro_core.report.paper import CLAIMS, LOWER_IS_BETTER, Claim

TABLES = ("comparison", "progressive", "ablation")

Rows = dict[str, dict[Hashable, Any]]

SAME_APART = "same direction, apart"
SAME = "same direction"
EQUAL = "no difference"
OTHER = "other direction"
OTHER_APART = "other direction, apart"
DIRECTIONS = {
    SAME_APART: "as in the paper; the 95 % intervals do not overlap",
    SAME: "as in the paper; the intervals overlap",
    EQUAL: "the two values are equal",
    OTHER: "opposite to the paper; the intervals overlap",
    OTHER_APART: "opposite to the paper; the intervals do not overlap",
}
"""How two values of a run compare with an ordering of the paper. `claims` decides whether it holds:
intervals over few seeds are too narrow, and those of one seed lack the variance over trainings."""


class OrderingResult(NamedTuple):
    """One ordering of the paper with the values of this run."""

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
    return {
        name: read_csv_table(
            root / "tables" / f"{name}.csv", COLUMNS, ("system", "test_set"), "run `hpro tables`"
        )
        for name in TABLES
    }


def read_breakdown(root: Path, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of tables/{by_emotion,by_speaker,confusion}.csv; it may have none.

    Args:
        root: results folder of the run.
        name: file name without ending.
        columns: columns that are needed; the first three are text.

    Raises:
        HproError: the table is missing or lacks a column.
    """
    path, hint = root / "tables" / f"{name}.csv", "run `hpro tables`"
    if len(read_text(path, hint).splitlines()) == 1:
        return []
    table = read_csv_table(path, columns, columns[:3], hint)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def systems_of(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Return every system, without duplicates, in the order of the tables."""
    return list(dict.fromkeys(name for t in tables.values() for name in t["system"]))


def test_sets_of(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Return every test set, without duplicates, in the order of the tables."""
    return list(dict.fromkeys(name for t in tables.values() for name in t["test_set"]))


def ordering_results(tables: dict[str, pd.DataFrame]) -> list[OrderingResult]:
    """Evaluate every ordering of the paper for which this run has both values."""
    found = []
    for claim in CLAIMS:
        table = tables[claim.table]
        for test_set in dict.fromkeys(table["test_set"]):
            part = table[table["test_set"] == test_set]
            rows = {row["system"]: row for row in part.to_dict("records")}
            if claim.better in rows and claim.worse in rows:
                better = _of(rows, claim.better, claim.metric)
                worse = _of(rows, claim.worse, claim.metric)
                if math.isnan(better.value) or math.isnan(worse.value):
                    continue  # the affect of this test set is not judged
                outcome = direction(claim, better, worse)
                found.append(OrderingResult(claim, test_set, better, worse, outcome))
    return found


def by_claim(found: list[OrderingResult]) -> dict[Claim, dict[str, OrderingResult]]:
    """Group results by ordering, then by test set."""
    grouped: dict[Claim, dict[str, OrderingResult]] = {}
    for result in found:
        grouped.setdefault(result.claim, {})[result.test_set] = result
    return grouped


def direction(claim: Claim, better: Interval, worse: Interval) -> str:
    """Compare two values with 95 % intervals with an ordering of the paper.

    `better` is of the system that is better in the paper. Returns a key of `DIRECTIONS`.
    """
    if claim.metric in LOWER_IS_BETTER:
        better, worse = worse, better
    apart = better.lo > worse.hi or worse.lo > better.hi
    if better.value == worse.value:
        return EQUAL
    if better.value > worse.value:
        return SAME_APART if apart else SAME
    return OTHER_APART if apart else OTHER


def summary(found: list[OrderingResult], test_set: str) -> str:
    """Summarise results of one test set in one sentence."""
    outcomes = [result.direction for result in found if result.test_set == test_set]
    if not outcomes:
        return f"On {test_set} this run has no pair of systems that the paper compares."
    n = {outcome: outcomes.count(outcome) for outcome in DIRECTIONS}
    return (
        f"On {test_set}, of {len(outcomes)} orderings of the paper, {n[SAME_APART] + n[SAME]} have "
        f"the same direction here ({n[SAME_APART]} of them with intervals that do not overlap), "
        f"{n[OTHER_APART] + n[OTHER]} the opposite direction ({n[OTHER_APART]}), and {n[EQUAL]} no "
        "difference."
    )


def _of(rows: Rows, system: str, metric: str) -> Interval:
    row = rows[system]
    return Interval(row[metric], row[f"{metric}_lo"], row[f"{metric}_hi"])
