"""The report stage: read the results of a run and write report/index.html."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from hpro_core.analysis.breakdown import CONFUSION_COLUMNS
from hpro_core.analysis.scores import (
    BROUGHT_METRICS,
    PROSODY_METRICS,
    QUALITY_METRICS,
    SPEECH_METRICS,
)
from hpro_core.analysis.tables import cautions_of
from hpro_core.constants import EMOTIONS
from hpro_core.io import check_type, read_json, read_text, write_text
from hpro_core.judges.provenance import read_provenance
from hpro_core.params import (
    SEEDLESS,
    Codec,
    Label,
    Report,
    Speech,
    Vocoder,
    read_plain,
    read_section,
)
from hpro_core.report import counts, figures, paper, provenance, results
from hpro_core.report.samples import Sample, System, load_system, samples

MAIN_SYSTEMS = ("recordings", "tokenrecon", "sft", "frame", "word", "hpro")
"""Systems that are shown first, in this order: ceilings, then the training stages."""

VAD_TEACHERS = {
    "weak": "weak formulas over word norms, pitch, level and rate",
    "audeering": "audeering's model",
}
EMOTION_TEACHERS = {
    "weak": "a weak formula over that and punctuation",
    "emotion2vec": "emotion2vec",
}
"""Descriptions of the values of `label.vad_teacher` and `label.emotion_teacher`."""

BREAKDOWN_METRICS = ("wer", "wvad_ccc", "emo_sim", *PROSODY_METRICS)
"""Metrics of the tables by emotion and speaker; the others are in their CSV files."""

TITLES = {
    "comparison": "Comparison (the paper's Table I)",
    "progressive": "Progressive stages (the paper's Table II)",
    "ablation": "Ablation of rewards (the paper's Table III)",
}


def build(root: Path, settings: Report, params: Path) -> Path:
    """Write the report of a run as one self-contained HTML file; returns its path.

    The same results at the same git revision give identical bytes. The page shows the settings file
    `params` of the run in full.

    Raises:
        HproError: a result is missing; the message names the command that creates it.
    """
    tables = results.read_tables(root)
    seeds, external = read_plain(params, "seeds", list), read_plain(params, "external", dict)
    systems = [
        load_system(root, name, seeds[0]) for name in order_systems(results.systems_of(tables))
    ]
    sentences = samples(root, systems, settings.samples, external)
    names = [system.name for system in systems]
    policies = [name for name in names if name not in (*SEEDLESS, *external)]
    of_first = root / "eval" / systems[0].name / f"seed{seeds[0]}"
    judges = read_provenance(of_first / "metrics.json").judges  # `hpro tables`: all have the same
    label = read_section(params, "label", Label)
    context = {
        **_header(root, params),
        **_results(tables),
        **_breakdowns(root),
        "judged_by": sorted(judges.items()),
        "cautions": cautions_of(root, names, seeds, external),
        "judges": measurements(root / "judge" / "metrics.json", "hpro judge-recordings"),
        "alignment": _alignment(root / "align" / "accuracy.json"),
        "counts": counts.stage_counts(root),
        "splits": counts.split_counts(root).to_dict("records"),
        "stopped": [_length_limits(system) for system in systems if system.name not in external],
        "reward_diagnostics": reward_diagnostics(root, names, seeds),
        "limitations": limitations(root, tables, systems, label),
        "labels": _labels(root, results.test_sets_of(tables), label),
        "without_traces": [system.name for system in systems if system.word_vad is None],
        **_figures(
            tables,
            sentences,
            figures.training_files(root, training_commands(params, policies), seeds),
        ),
        "again": f"{policies[-1]}/seed{seeds[0]}" if policies else "",
    }
    page = write_page(root / "report" / "index.html", "page.html", context)
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return page


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


def measurements(path: Path, command: str) -> list[tuple[str, str]]:
    """Flatten a JSON file of measurements into a list of names and formatted values.

    An object with the keys value, lo and hi becomes one value with its interval. The command that
    creates the file is for the error message.

    Raises:
        HproError: the file is missing or is not JSON.
    """
    return list(_flat(read_json(path, f"run `{command}`"), ""))


def _alignment(path: Path) -> list[tuple[str, str]]:
    """Accuracy of the word times; empty if no corpus has reference times."""
    return measurements(path, "hpro align-check") if path.is_file() else []


def reward_diagnostics(
    root: Path, systems: Iterable[str], seeds: Iterable[int]
) -> list[dict[str, Any]]:
    """Read the diagnostics of each reward training; systems without one are skipped.

    Each entry has the gradient share of every term before the first step, the kept step if judges
    chose it, and the warnings.

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
            shares, found_then = _gradient_shares(path, again)
            kept_step, alarms = _probe_results(path.with_name("metrics.json"), again)
            found.append({
                "system": system,
                "seed": seed,
                "shares": shares,
                "kept_step": kept_step,
                "warnings": [*found_then, *alarms],
            })  # fmt: skip
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


_ONE_SEED = "Intervals are over utterances; they do not include the variance over training seeds."
_FEW_SEEDS = (
    "Intervals are bootstrap intervals over seeds and utterances, which are too narrow for few "
    "seeds; all seeds share the base, the tokenizer, the codec and the judges."
)


def limitations(
    root: Path, tables: Mapping[str, pd.DataFrame], systems: list[System], label: Label
) -> list[str]:
    """List the limitations of a run, from its results and its label teachers."""
    every = pd.concat(tables.values())
    points = [
        f"The smallest test set has {int(every['n'].min())} utterances. "
        + (_ONE_SEED if int(every["seeds"].max()) == 1 else _FEW_SEEDS),
        "Labels of real speech are estimates (docs/labels.md): affect of words by "
        f"{VAD_TEACHERS[label.vad_teacher]}, emotion by {EMOTION_TEACHERS[label.emotion_teacher]}. "
        "Rewards that are trained on real speech are trained on these estimates.",
        "The judges are models, small ones by default; section Judges lists them and their "
        "accuracy. There was no listening test: this report has no MOS.",
    ]
    if _is_small(root):
        points += [
            "The policy, tokenizer and codec have a few million parameters and were trained for "
            "minutes; those of the paper have hundreds of millions.",
            "At this scale, an ordering that does not hold is weak evidence against the paper, and "
            "one that holds is weak evidence for it.",
        ]
    if int(every["seeds"].max()) == 1:
        points.insert(0, "One training seed only: no difference between systems is established.")
    if not (root / "align" / "accuracy.json").is_file():
        points.append("Word times were not compared with reference times (`hpro align-check`).")
    uneven = [c.stage for c in counts.stage_counts(root) if not c.adds_up]
    if uneven:
        points.insert(0, f"Utterances are unaccounted for in: {', '.join(uneven)}.")
    return points


def _labels(root: Path, test_sets: Iterable[str], label: Label) -> str:
    """Source of the word labels in the figures."""
    made_by = f"by {VAD_TEACHERS[label.vad_teacher]}"
    exact = [s for s in test_sets if (root / "corpus" / s / "truth_vad.parquet").is_file()]
    return f"exact on {', '.join(exact)}, {made_by} elsewhere" if exact else made_by


def _is_small(root: Path) -> bool:
    """Whether the policies are the small ones of this project."""
    configs = sorted(root.glob("policy/*/seed*/config.json"))
    kinds = {read_json(path).get("policy") for path in configs}
    return kinds != {"cosyvoice2"}


def _header(root: Path, params: Path) -> dict[str, Any]:
    files = [root / "tables" / f"{name}.csv" for name in results.TABLES]
    return {
        "run": root.name,
        "date": provenance.date_of(files),
        "revision": provenance.git_revision(),
        "versions": provenance.versions(),
        "params": read_text(params),
        "params_name": params.name,
    }


def _results(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    found = results.ordering_results(tables)
    test_sets = results.test_sets_of(tables)
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
    }


def _brought(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Quality judges of this run whose weights the user brought."""
    return [m for m in BROUGHT_METRICS if any(m in table for table in tables.values())]


def _breakdowns(root: Path) -> dict[str, Any]:
    """Tables by emotion and speaker, and the confusion of emotions."""
    needed = [*("system", "test_set"), *("n", "seeds"), *BREAKDOWN_METRICS]
    by = {
        what: results.read_breakdown(root, f"by_{what}", [*needed[:2], what, *needed[2:]])
        for what in ("emotion", "speaker")
    }
    confusion = results.read_breakdown(root, "confusion", CONFUSION_COLUMNS)
    return {
        "by": by,
        "breakdown_metrics": BREAKDOWN_METRICS,
        "confusion": confusion,
        "emotions": EMOTIONS,
    }


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


def _figures(
    tables: Mapping[str, pd.DataFrame], sentences: list[Sample], curves_of: Mapping[str, list[Path]]
) -> dict[str, Any]:
    """All figures of the page, with unique element ids."""
    every = pd.concat(tables.values()).drop_duplicates(["system", "test_set"])
    order = order_systems(results.systems_of(dict(tables)))
    every = every.sort_values("system", key=lambda names: names.map(order.index))
    by_set = {
        name: figures.intervals(every[every["test_set"] == name])
        for name in results.test_sets_of(dict(tables))
    }
    curves = {name: figures.training_curves(paths) for name, paths in curves_of.items()}
    drawn = iter(
        figures.unique_ids([*by_set.values(), *curves.values(), *(s.traces for s in sentences)])
    )
    return {
        "intervals": {name: next(drawn) for name in by_set},
        "curves": {name: next(drawn) for name in curves},
        "samples": [(sample, next(drawn)) for sample in sentences],
    }


def _length_limits(system: System) -> dict[str, Any]:
    """Number of utterances of a system that reached the length limit."""
    return {
        "system": system.name,
        "seed": system.seed,
        "utterances": len(system.synthesis),
        "endless": sum(not row["stopped"] for row in system.synthesis.values()),
    }


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and {"value", "lo", "hi"} <= value.keys():
        yield name, f"{_figure(value['value'])} [{_figure(value['lo'])}, {_figure(value['hi'])}]"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name} · {key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(_figure(item) for item in value)
    else:
        yield name, _figure(value)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def cell(metric: str, value: float) -> str:
    """Format a value: WER in percent with one decimal, scores of quality with two, the others
    with three."""
    if pd.isna(value):
        return "–"
    if metric in figures.PERCENT:
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if metric in QUALITY_METRICS else f"{value:.3f}"


def span(metric: str, low: float, high: float) -> str:
    """Format an interval with the decimals of `cell`; empty for a value that was not judged."""
    if pd.isna(low):
        return ""
    return f"[{cell(metric, low)}, {cell(metric, high)}]"


def write_page(path: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Render a template of this folder, with those of macros.html; returns the page's path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    environment.globals.update(cell=cell, span=span, style=style)
    page = environment.get_template(template).render(**context)
    write_text(path, page)
    return path
