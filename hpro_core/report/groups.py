"""Results by emotion, speaker and length of sentence, and the confusion of emotions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpro_core.analysis.breakdown import CONFUSION_COLUMNS
from hpro_core.analysis.scores import PROSODY_METRICS, ratio
from hpro_core.analysis.tables import Scores, select_test_set, test_sets
from hpro_core.constants import EMOTIONS
from hpro_core.report.results import read_breakdown

METRICS = ("wer", "wvad_ccc", "emo_sim", *PROSODY_METRICS)
"""Metrics of these tables; the others are in their CSV files."""

LENGTHS = ((1, 4), (5, 8), (9, 12), (13, None))
"""Classes of sentences (ours): fewest and most words of the reference."""


MOST_GROUPS = 20
"""Most groups of a table with all systems (ours); with more it has two systems only."""


@dataclass(frozen=True)
class GroupRow:
    """Metrics of a system on one group of utterances."""

    test_set: str
    group: str
    system: str
    n: int
    values: dict[str, float]  # METRICS; NaN if not judged


@dataclass(frozen=True)
class Confusion:
    """Intended and judged emotions of a system on a test set."""

    system: str
    test_set: str
    emotions: list[str]  # those that any system has on the test set
    rows: list[tuple[str, int, dict[str, int]]]  # intended emotion, n, judged emotion -> count


def read_groups(root: Path, what: str, systems: Sequence[str]) -> list[GroupRow]:
    """Read tables/by_{emotion,speaker}.csv, sorted by test set, group, and the order of systems.

    Raises:
        HproError: the table is missing or lacks a column.
    """
    needed = ("system", "test_set", what, "n", *METRICS)
    rows = [
        GroupRow(
            test_set=row["test_set"],
            group=row[what],
            system=row["system"],
            n=int(row["n"]),
            values={metric: float(row[metric]) for metric in METRICS},
        )
        for row in read_breakdown(root, f"by_{what}", needed)
    ]
    names = list(dict.fromkeys(row.group for row in rows))
    return _sorted(rows, names, systems)


def by_length(scores: Scores, systems: Sequence[str]) -> list[GroupRow]:
    """Compute the metrics of each class of `LENGTHS`, over all seeds; empty classes have no row."""
    rows = []
    for test_set in test_sets(scores):
        for system, tables in scores.items():
            chosen = select_test_set(tables, test_set)
            words = chosen[0]["n_words"].to_numpy()
            for fewest, most in LENGTHS:
                inside = (words >= fewest) & (words <= (most or words.max(initial=0)))
                if not inside.any():
                    continue
                part = [table[inside] for table in chosen]
                values = {metric: ratio(part, metric).value for metric in METRICS}
                rows.append(
                    GroupRow(test_set, length_name(fewest, most), system, int(inside.sum()), values)
                )
    return _sorted(rows, [length_name(*each) for each in LENGTHS], systems)


def thinned(rows: Sequence[GroupRow], pair: Sequence[str]) -> tuple[list[GroupRow], bool]:
    """Keep the systems of `pair` only if there are more than MOST_GROUPS groups.

    Returns:
        The kept rows, and whether some were left out.
    """
    if len({row.group for row in rows}) <= MOST_GROUPS:
        return list(rows), False
    kept = [row for row in rows if row.system in pair]
    return kept, len(kept) < len(rows)


def length_name(fewest: int, most: int | None) -> str:
    """Describe a class of sentence lengths."""
    return f"{fewest} words or more" if most is None else f"{fewest} to {most} words"


def read_confusions(root: Path, systems: Sequence[str]) -> list[Confusion]:
    """Read tables/confusion.csv, in the order of systems.

    Raises:
        HproError: the table is missing or lacks a column.
    """
    by_system: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    occur: dict[str, set[str]] = {}
    for row in read_breakdown(root, "confusion", CONFUSION_COLUMNS):
        by_system.setdefault((row["test_set"], row["system"]), []).append(row)
        found = {row["emotion"], *(name for name in EMOTIONS if row[name] > 0)}
        occur.setdefault(row["test_set"], set()).update(found)
    keys = sorted(by_system, key=lambda key: (key[0], _place(key[1], systems)))
    return [
        Confusion(
            system=system,
            test_set=test_set,
            emotions=(kept := [name for name in EMOTIONS if name in occur[test_set]]),
            rows=[
                (row["emotion"], int(row["n"]), {name: int(row[name]) for name in kept})
                for row in by_system[test_set, system]
            ],
        )
        for test_set, system in keys
    ]


def _sorted(rows: list[GroupRow], names: Sequence[str], systems: Sequence[str]) -> list[GroupRow]:
    return sorted(
        rows,
        key=lambda row: (row.test_set, names.index(row.group), _place(row.system, systems)),
    )


def _place(system: str, systems: Sequence[str]) -> int:
    return list(systems).index(system) if system in systems else len(systems)
