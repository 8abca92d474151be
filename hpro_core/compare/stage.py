"""The comparison of finished runs: a page, its audio, and two tables beside it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpro_core.analysis.scores import BROUGHT_METRICS, PROSODY_METRICS, SPEECH_METRICS
from hpro_core.analysis.tables import Scores
from hpro_core.compare import notes
from hpro_core.compare.differences import (
    FEW,
    Compared,
    Pair,
    Resampling,
    SystemDifferences,
    as_table,
    run_differences,
    seed_pairs,
    withheld,
)
from hpro_core.compare.runs import Run, Shared, shared_sentences
from hpro_core.compare.sentences import styles, write_browser
from hpro_core.compare.settings import differing, other_values
from hpro_core.errors import HproError
from hpro_core.io import write_csv_table
from hpro_core.judges.provenance import JudgeProvenance
from hpro_core.report import comparison, figures, listen, provenance
from hpro_core.report.page import write_page
from hpro_core.report.stage import order_systems

MANY = 2
"""A number of seeds with which no sentence says that there is one."""


def build(runs: Sequence[Run], out: Path, samples: int) -> Compared:
    """Compare runs with the first one; write index.html, sentences/, differences.csv, settings.csv.

    Args:
        runs: two or more finished runs.
        out: existing folder to write into.
        samples: number of sentences per test set that can be listened to.

    Raises:
        HproError: the runs have no system or no test sentence in common, or a result is missing.
    """
    systems = _shared_systems(runs)
    scores = [run.scores(systems) for run in runs]
    judges = [run.provenance(systems) for run in runs]
    shared = shared_sentences(runs, scores)
    sets = _ordered_sets(runs, shared, scores)
    shared = dataclasses.replace(shared, test_sets=_sorted_by_set(shared.test_sets, sets))
    system = _headline_system(runs[0], systems)
    without = [withheld(judges[0], other) for other in judges]
    pairs = [
        _pair(runs[0], run, system, (scores[0], own), shared, lacking)
        for run, own, lacking in zip(runs[1:], scores[1:], without[1:], strict=True)
    ]
    different = differing({run.name: run.settings for run in runs})
    limits = [
        *notes.on_judges(runs, judges, without),
        *notes.on_data(runs, shared, systems),
        *notes.on_scores(runs, scores, different),
    ]
    compared = Compared([run.name for run in runs], system, sets, pairs, limits, different)
    table = as_table({pair.run: pair.found for pair in pairs}, runs[0].name)
    write_csv_table(table, out / "differences.csv")
    write_csv_table(different, out / "settings.csv")
    ordered = [system, *(name for name in systems if name != system)]
    kept = [m for m in listen.METRICS if not any(m in lacking for lacking in without)]
    browser = write_browser(runs, ordered, shared, kept, out, samples)
    _write_page(out, runs, systems, judges, compared, shared, browser)
    return compared


def _shared_systems(runs: Sequence[Run]) -> list[str]:
    shared = [name for name in runs[0].systems if all(name in run.systems for run in runs)]
    if not shared:
        named = "; ".join(f"{run.root}: {', '.join(run.systems)}" for run in runs)
        raise HproError(f"the runs have no system in common ({named}): name other runs")
    return order_systems(shared)


def _headline_system(first: Run, systems: Sequence[str]) -> str:
    """The proposed policy, or the last policy, or the last system."""
    policies = [system for system in systems if first.is_policy(system)]
    if comparison.PROPOSED in policies:
        return comparison.PROPOSED
    return (policies or list(systems))[-1]


def _ordered_sets(runs: Sequence[Run], shared: Shared, scores: Sequence[Scores]) -> list[str]:
    """Test sets in the order of the report: with judged affect first, then with exact labels."""

    def rank(test_set: str) -> tuple[bool, bool, str]:
        tables = [next(iter(of_run.values()))[0] for of_run in scores]
        judged = all(
            table.loc[table["corpus"] == test_set, "emo_sim"].notna().any() for table in tables
        )
        exact = (runs[0].root / "corpus" / test_set / "truth_vad.parquet").is_file()
        return not judged, not exact, test_set

    return sorted(set(shared.test_sets.values()), key=rank)


def _sorted_by_set(test_sets: Mapping[str, str], order: Sequence[str]) -> dict[str, str]:
    ids = sorted(test_sets, key=lambda utt_id: (order.index(test_sets[utt_id]), utt_id))
    return {utt_id: test_sets[utt_id] for utt_id in ids}


def _pair(
    first: Run,
    other: Run,
    system: str,
    scores: tuple[Scores, Scores],
    shared: Shared,
    without: Mapping[str, str],
) -> Pair:
    resampling = Resampling(
        first.setting("evaluate", "bootstrap_samples", int), first.setting("evaluate", "seed", int)
    )
    found = run_differences(
        *scores,
        seed_pairs(first.seeds, other.seeds),
        (first.seeds, other.seeds),
        shared.test_sets,
        without,
        resampling,
    )
    compared = [_comparison(first, other, each) for each in found]
    shown = [each for each, of in zip(compared, found, strict=True) if of.system == system]
    if _same_scores(*scores):
        headline = (
            f"{other.name} and {first.name} have the same scores for every sentence and system "
            "that both have."
        )
    elif first.is_policy(system):
        headline = comparison.headline(shown)
    else:
        headline = "The runs have no policy in common."
    untrained = [
        f"Without a training: {each.sentence[0].lower()}{each.sentence[1:]}"
        for each, of in zip(compared, found, strict=True)
        if of.system != system
        and not first.is_policy(of.system)
        and any(row.shown for row in each.rows)
    ]
    return Pair(
        run=other.name,
        first=first.name,
        headline=headline,
        sentences=[*(each.sentence for each in shown), *untrained],
        found=found,
        n_intervals=sum(any(row.difference) for each in found for row in each.rows),
    )


def _comparison(first: Run, other: Run, found: SystemDifferences) -> comparison.Comparison:
    """The differences of a system in words; those without trainings are not limited by seeds."""
    system = f"{found.system} of {other.name}"
    seeds = found.seeds if first.is_policy(found.system) else MANY
    return comparison.Comparison(
        test_set=found.test_set,
        system=system,
        baseline=f"{found.system} of {first.name}",
        seeds=seeds,
        rows=found.rows,
        sentence=comparison.sentence(found.test_set, system, found.rows, seeds),
        plots=[],
    )


def _same_scores(first: Scores, other: Scores) -> bool:
    return all(
        len(tables) == len(other[system])
        and all(one.equals(two) for one, two in zip(tables, other[system], strict=True))
        for system, tables in first.items()
    )


def _write_page(
    out: Path,
    runs: Sequence[Run],
    systems: Sequence[str],
    judges: Sequence[JudgeProvenance],
    compared: Compared,
    shared: Shared,
    browser: listen.Browser,
) -> None:
    files = [
        run.root / "eval" / name / f"seed{run.seeds[0]}" / "scores.parquet"
        for run in runs
        for name in systems
    ]
    colours = dict(zip(compared.runs, styles(len(runs)), strict=True))
    context: dict[str, Any] = {
        "runs": [(run.name, str(run.root)) for run in runs],
        "date": provenance.date_of(files),
        "revision": provenance.git_revision(),
        "versions": provenance.versions(),
        "compared": compared,
        "policies": [name for name in systems if runs[0].is_policy(name)],
        "metrics": compared.metrics(SPEECH_METRICS),
        "prosody_metrics": compared.metrics([*PROSODY_METRICS, *BROUGHT_METRICS]),
        "metric_names": figures.METRIC_NAMES,
        "plots": [
            [
                comparison.pair_plot(row, [(n, colours[n]) for n in (pair.run, pair.first)])
                for row in pair.of(compared.system)[0].rows
                if row.metric not in PROSODY_METRICS
            ]
            for pair in compared.pairs
        ],
        "few": FEW,
        "browser": browser,
        "different": compared.different.to_dict("split")["data"],
        "judges": other_values([dict(each.judges) for each in judges]),
        "models": other_values([dict(provenance.model_hashes(run.root)) for run in runs]),
        "code": other_values([run.code for run in runs]),
        "n_sentences": len(shared.test_sets),
    }  # fmt: skip
    write_page(out / "index.html", "compare.html", context)
