"""The report stage: read the results of a run and write report/index.html."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hpro_core.analysis.reward_vs_judges import TERM_NAMES
from hpro_core.analysis.scores import BROUGHT_METRICS, PROSODY_METRICS, SPEECH_METRICS
from hpro_core.analysis.tables import cautions_of, read_scores
from hpro_core.io import read_text
from hpro_core.judges.provenance import read_provenance
from hpro_core.params import (
    SEEDLESS,
    Codec,
    Label,
    Report,
    Reward,
    Speech,
    Variant,
    Vocoder,
    read_plain,
    read_section,
    read_variants,
)
from hpro_core.report import (
    comparison,
    counts,
    figures,
    groups,
    jobs,
    limitations,
    listen,
    paper,
    provenance,
    results,
    training,
)
from hpro_core.report.figures import MAIN_SYSTEMS
from hpro_core.report.measured import measurements
from hpro_core.report.names import meanings
from hpro_core.report.page import write_page
from hpro_core.report.samples import System, load_system

TITLES = {
    "comparison": "Comparison (the paper's Table I)",
    "progressive": "Progressive stages (the paper's Table II)",
    "ablation": "Ablation of rewards (the paper's Table III)",
}
EVIDENCE = Path(__file__).parents[2] / "docs" / "findings.md"
"""The runs with five seeds; only in a checkout of the project."""


def build(root: Path, settings: Report, params: Path) -> Path:
    """Write the report of a run: report/index.html, and report/sentences/ beside it.

    The same results and benchmarks at the same git revision give identical bytes. The page shows
    the settings file `params` of the run in full. It works alone; the audio of most sentences is in
    the files beside it. Returns the path of the page.

    Raises:
        HproError: a result is missing; the message names the command that creates it.
    """
    tables = results.read_tables(root)
    seeds, external = read_plain(params, "seeds", list), read_plain(params, "external", dict)
    names = order_systems(results.systems_of(tables))
    systems = [load_system(root, name, seeds[0]) for name in names]
    policies = [name for name in names if name not in (*SEEDLESS, *external)]
    variants, label = read_variants(params), read_section(params, "label", Label)
    test_sets = _first_sets(root, tables)
    compared = comparison.compared_system(tables, list(external))
    pair = [comparison.BASELINE, compared] if compared else names[:2]
    labels = limitations.label_kinds(root, test_sets, label.vad_teacher, label.emotion_teacher)
    of_first = root / "eval" / names[0] / f"seed{seeds[0]}"
    judges = read_provenance(of_first / "metrics.json").judges  # `hpro tables`: all have the same
    empty_folder(root / "report" / listen.FOLDER)
    context = {
        **_header(root, params),
        **_comparisons(root, tables, test_sets, list(external)),
        "names": _names(tables, names, test_sets, variants),
        "reward_steps": _reward_steps(params, variants, compared) if compared else 0,
        **_results(tables, test_sets),
        **_groups(root, names, seeds, external, pair),
        **_training(root, params, variants, names, policies, seeds),
        "judged_by": sorted(judges.items()),
        "cautions": cautions_of(root, names, seeds, external),
        "judges": measurements(
            root / "judge" / "metrics.json",
            "hpro judge-recordings",
            without=("judges", "judged_by_teachers"),
        ),
        "alignment": _alignment(root / "align" / "accuracy.json"),
        "counts": counts.stage_counts(root),
        "splits": counts.split_counts(root).to_dict("records"),
        "stopped": [_length_limits(system) for system in systems if system.name not in external],
        "limitations": limitations.limitations(root, tables, label),
        "labels": limitations.label_source(labels, label),
        "label_kinds": labels,
        "without_traces": [system.name for system in systems if system.word_vad is None],
        "jobs": jobs.read_jobs(root.parent.parent / "benchmarks" / root.name),
        "browser": listen.write_browser(
            root, systems, settings.samples, labels, list(external), test_sets
        ),
        "again": f"{policies[-1]}/seed{seeds[0]}" if policies else "",
    }
    page = write_page(root / "report" / "index.html", "page.html", context)
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return page


def empty_folder(folder: Path) -> None:
    """Create the folder of the sentences, without the files of an earlier report."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.js")):
        path.unlink()


def training_commands(params: Path, policies: Sequence[str]) -> dict[str, str]:
    """List the trainings of a run with these policies: folder below its results -> command."""
    found = {}
    base = read_plain(params, "base", str)
    if not base and read_section(params, "speech", Speech).preset == "embedded":
        found["speech/tokenizer"] = "hpro tokenizer"
        if read_section(params, "vocoder", Vocoder).method == "istft":
            found["speech/vocoder"] = "hpro vocoder"
    if not base and not read_section(params, "codec", Codec).checkpoint:
        found |= {"codec/content": "hpro codec-content", "codec/style": "hpro codec-style"}
    for name in policies:
        found[f"policy/{name}"] = "hpro sft" if name == "sft" else f"hpro reward {name}"
    return found


def order_systems(names: Iterable[str]) -> list[str]:
    """Sort systems in the order of `MAIN_SYSTEMS`; the others follow in the given order."""
    given = list(names)
    return [
        *(name for name in MAIN_SYSTEMS if name in given),
        *(name for name in given if name not in MAIN_SYSTEMS),
    ]


def _first_sets(root: Path, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Test sets in the order of the page: those with judged affect and exact labels first."""
    every = pd.concat(tables.values())

    def rank(test_set: str) -> tuple[bool, bool]:
        judged = every.loc[every["test_set"] == test_set, "emo_sim"].notna().any()
        exact = (root / "corpus" / test_set / "truth_vad.parquet").is_file()
        return not judged, not exact

    return sorted(results.test_sets_of(dict(tables)), key=rank)


def _comparisons(
    root: Path,
    tables: Mapping[str, pd.DataFrame],
    test_sets: Sequence[str],
    external: Sequence[str],
) -> dict[str, Any]:
    """The first screen, and the differences of all policies."""
    gaps = comparison.read_differences(root)
    floors = comparison.read_floors(root / "judge" / "metrics.json")
    rows = _every_row(tables)
    system = comparison.compared_system(tables, external)
    compared = (
        [comparison.compare(system, rows, gaps, test_set, floors) for test_set in test_sets]
        if system is not None
        else []
    )
    names = [name for name in order_systems(dict.fromkeys(gaps["system"])) if name != system]
    others = {
        test_set: [comparison.compare(name, rows, gaps, test_set, floors) for name in names]
        for test_set in test_sets
    }
    n, by_chance = comparison.expected_by_chance(compared)
    return {
        "comparisons": compared,
        "headline": comparison.headline(compared) if compared else "",
        "n_intervals": n,
        "by_chance": by_chance,
        "other_comparisons": {
            test_set: [each for each in found if each.rows] for test_set, found in others.items()
        },
        "evidence": _evidence(root),
    }


def _names(
    tables: Mapping[str, pd.DataFrame],
    systems: Sequence[str],
    test_sets: Sequence[str],
    variants: Mapping[str, Variant],
) -> dict[str, list[tuple[str, str]]]:
    """What the names on the page mean."""
    metrics = [*SPEECH_METRICS, *PROSODY_METRICS, *_brought(tables)]
    return meanings(metrics, systems, test_sets, variants)


def _reward_steps(params: Path, variants: Mapping[str, Variant], system: str) -> int:
    """Steps of all reward trainings that lead to a policy."""
    reward = read_section(params, "reward", Reward)
    starts = {name: variant.start for name, variant in variants.items()}
    path = (variants[name] for name in training.path_of(system, starts))
    return sum(variant.stages * variant.applied_to(reward).steps for variant in path)


def _evidence(root: Path) -> str:
    """Link from the report to docs/findings.md; empty for results outside of the checkout."""
    page, project = (root / "report").resolve(), EVIDENCE.parents[1].resolve()
    if not (EVIDENCE.is_file() and page.is_relative_to(project)):
        return ""
    return Path(os.path.relpath(EVIDENCE.resolve(), page)).as_posix()


def _every_row(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables, each system and test set once, in the order of the page."""
    every = pd.concat(tables.values()).drop_duplicates(["system", "test_set"])
    order = order_systems(results.systems_of(dict(tables)))
    return every.sort_values("system", key=lambda names: names.map(order.index))


def _groups(
    root: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    external: Mapping[str, Any],
    pair: Sequence[str],
) -> dict[str, Any]:
    """Tables by emotion, speaker and length, and the confusion of emotions."""
    scores = read_scores(root, names, seeds, list(external))
    every = {
        "emotion": groups.read_groups(root, "emotion", names),
        "speaker": groups.read_groups(root, "speaker", names),
        "length": groups.by_length(scores, names),
    }
    return {
        "groups": {what: groups.thinned(rows, pair) for what, rows in every.items()},
        "group_pair": pair,
        "group_metrics": groups.METRICS,
        "confusions": groups.read_confusions(root, names),
    }


def _training(
    root: Path,
    params: Path,
    variants: Mapping[str, Variant],
    names: Sequence[str],
    policies: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Curves and diagnostics of all trainings."""
    files = figures.training_files(root, training_commands(params, policies), seeds)
    curves = {name: figures.read_curves(name, paths) for name, paths in files.items()}
    starts = {name: variant.start for name, variant in variants.items() if name in policies}
    longest = max((training.path_of(name, starts) for name in starts), key=len, default=[])
    return {
        "path": longest,
        "probed": any((t["split"] == "probe").any() for c in curves.values() for t in c.tables),
        "main_terms": ("loss", *TERM_NAMES, "grad_norm"),
        "path_plots": training.path_plots(longest, curves) if len(longest) > 1 else [],
        "curves": {name: figures.training_curves([each]) for name, each in curves.items()},
        "reward_diagnostics": training.reward_diagnostics(root, names, seeds),
        "term_checks": training.term_checks(starts, curves, comparison.read_differences(root)),
    }


def _alignment(path: Path) -> list[tuple[str, str]]:
    """Accuracy of the word times; empty if no corpus has reference times."""
    return measurements(path, "hpro align-check") if path.is_file() else []


def _header(root: Path, params: Path) -> dict[str, Any]:
    files = [root / "tables" / f"{name}.csv" for name in results.TABLES]
    return {
        "run": root.name,
        "date": provenance.date_of(files),
        "revision": provenance.git_revision(),
        "versions": provenance.versions(),
        "model_hashes": provenance.model_hashes(root),
        "params": read_text(params),
        "params_name": params.name,
    }


def _results(tables: Mapping[str, pd.DataFrame], test_sets: Sequence[str]) -> dict[str, Any]:
    every = results.ordering_results(dict(tables))
    found = [each for each in every if not each.claim.trivial]
    rows = _every_row(tables)
    return {
        "titles": TITLES,
        "tables": {name: table.to_dict("records") for name, table in tables.items()},
        "test_sets": test_sets,
        "metrics": SPEECH_METRICS,
        "prosody_metrics": [*PROSODY_METRICS, *_brought(tables)],
        "metric_names": figures.METRIC_NAMES,
        "paper": {name: _paper_rows(rows) for name, rows in paper.PAPER_VALUES.items()},
        "paper_only": _paper_only(tables),
        "ordering_results": results.by_claim(found),
        "summaries": [results.summary(found, test_set) for test_set in test_sets],
        "directions": results.DIRECTIONS,
        "intervals": {
            test_set: figures.intervals(rows[rows["test_set"] == test_set])
            for test_set in test_sets
        },
    }


def _brought(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Quality judges of this run whose weights the user brought."""
    return [m for m in BROUGHT_METRICS if any(m in table for table in tables.values())]


def _paper_rows(rows: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {
        system: dict(zip(paper.METRICS, figures_, strict=True)) for system, figures_ in rows.items()
    }


def _paper_only(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, dict[str, float]]]:
    """Rows of the paper's tables without a system in this run."""
    return {
        name: {
            system: figures_
            for system, figures_ in _paper_rows(rows).items()
            if system not in set(tables[name]["system"])
        }
        for name, rows in paper.PAPER_VALUES.items()
    }


def _length_limits(system: System) -> dict[str, Any]:
    """Number of utterances of a system that reached the length limit."""
    return {
        "system": system.name,
        "seed": system.seed,
        "utterances": len(system.synthesis),
        "endless": sum(not row["stopped"] for row in system.synthesis.values()),
    }
