"""The paper's tables with intervals, as CSV and Markdown."""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from hpro_core import records
from hpro_core.analysis.scores import (
    BROUGHT_METRICS,
    COUNTS,
    METRICS,
    PROSODY_METRICS,
    SPEECH_METRICS,
    counts,
    metrics_of,
    ratio,
    scored,
)
from hpro_core.analysis.statistics import Ratio, interval, paired_difference
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_csv_table, write_json, write_text
from hpro_core.judges.provenance import common_provenance, independence_warnings
from hpro_core.params import SEEDLESS, Evaluate, Tables
from hpro_core.synthesis.imported import import_note
from hpro_core.tables import SCORES, read_table

BASELINE = "sft"
"""Baseline of every other policy, paired by utterance."""


def metric_columns(metrics: Iterable[str]) -> list[str]:
    """Return each metric with the ends of its interval."""
    return [f"{metric}{end}" for metric in metrics for end in ("", "_lo", "_hi")]


COLUMNS = ("system", "test_set", *COUNTS, "seeds", *metric_columns(METRICS))
"""Columns of every table; those of BROUGHT_METRICS follow if they were judged."""

COUNTS_NOTE = (
    "words found: utterances whose words the aligner found in the synthesis, mean over seeds; the "
    "others count as 0 in wVAD-CCC and prosody. checked: utterances that the second ASR and the "
    "quality judges scored. F0, energy, rate: correlation with the recording over the words of an "
    "utterance. Pauses: F1 of gaps between words that are longer than 150 ms."
)
"""Explanation of the columns COUNTS, below each Markdown table."""

SUMMARY = {"wer": "wer", "wvad_ccc": "ccc", "emo_sim": "sim"}
"""Metric -> its name in the flat files of `metrics/`: those of the claims.

`dvc metrics show` prints one row per file, with the file's path, and one column per name. Short
names and three decimals make a row of the default run fit 80 columns. One file for a whole run
would be one row of 1,400 columns.
"""

METRIC_NAMES = {
    "wer": "WER",
    "wer_check": "WER (second ASR)",
    "wvad_ccc": "wVAD-CCC",
    "emo_sim": "EMO-SIM",
    "dnsmos": "DNSMOS",
    "distillmos": "DistillMOS",
    "speaker_sim": "speaker similarity",
    "f0_corr": "F0",
    "energy_corr": "energy",
    "rate_corr": "rate",
    "pause_f1": "pauses",
    "utmos": "UTMOS",
    "nisqa": "NISQA",
    "scoreq": "SCOREQ",
}

Scores = dict[str, list[pd.DataFrame]]
"""By system: one SCORES table per seed, all with the same utterances in the same order."""


def write_tables(
    root: Path,
    tables: Tables,
    seeds: Sequence[int],
    settings: Evaluate,
    out: Path | None = None,
    external: Collection[str] = (),
) -> Scores:
    """Write comparison, progressive, ablation (.csv, .md), differences.csv and metrics/.

    differences.csv has, for each policy except `sft` and each external system, its difference from
    `sft` in each metric (system minus `sft`) with the interval of the paired bootstrap, over the
    utterances that both have. metrics/<test set>/<system>.json has SUMMARY, means over seeds, for
    `dvc metrics`. Where the affect of a test set is not judged, the cells of wVAD-CCC and EMO-SIM
    are empty, and the other two files leave them out.

    Args:
        root: results folder of the run.
        tables: the rows of each table, in order.
        seeds: policy seeds of every row except the ceilings.
        settings: number of resamples and seed of the intervals.
        out: output folder; `root`/tables by default.
        external: the systems that are not of this project (`external` of the settings).

    Returns:
        The scores of every system of the tables.

    Raises:
        HproError: a system was not judged, systems of this project were judged on different
            utterances, or systems were judged by different models.
    """
    folder = root / "tables" if out is None else out
    rows: dict[str, list[str]] = tables.model_dump()
    systems = systems_of(tables)
    scores = read_scores(root, systems, seeds, external)
    below = "".join(
        f"\n{note}\n" for note in [COUNTS_NOTE, *cautions_of(root, systems, seeds, external)]
    )
    for name, systems in rows.items():
        chosen = {system: scores[system] for system in systems}
        table = summarise(chosen, settings.bootstrap_samples, settings.seed)
        write_csv_table(table, folder / f"{name}.csv")
        write_text(folder / f"{name}.md", markdown(table) + below)
    compared = [name for name in scores if name not in (*SEEDLESS, BASELINE)]
    if BASELINE not in scores:
        compared = []
    write_csv_table(differences(scores, compared, BASELINE, settings), folder / "differences.csv")
    for system, of_seeds in scores.items():
        for test_set in test_sets(scores):
            if summary := _summary(select_test_set(of_seeds, test_set)):
                write_json(folder / "metrics" / test_set / f"{system}.json", summary)
    return scores


def _summary(chosen: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Values of SUMMARY for one system on one test set, rounded to three decimals."""
    values = {name: ratio(chosen, metric).value for metric, name in SUMMARY.items()}
    return {name: round(value, 3) for name, value in values.items() if not math.isnan(value)}


def systems_of(tables: Tables) -> list[str]:
    """Return every system of the tables, without duplicates."""
    return list(dict.fromkeys(name for rows in tables.model_dump().values() for name in rows))


def read_scores(
    root: Path, systems: Sequence[str], seeds: Sequence[int], external: Collection[str] = ()
) -> Scores:
    """Read the scores of at least one system.

    Only the first seed is read of systems that are not policies: SEEDLESS and external ones.

    Raises:
        HproError: a system was not judged, systems of this project were judged on different
            utterances, or an external one on an utterance that they were not judged on.
    """
    scores: Scores = {}
    for system in systems:
        scores[system] = [_read(root, system, seed) for seed in _seeds_of(system, seeds, external)]
    own = [system for system in systems if system not in external]
    expected = _judged_utterances(scores[(own or list(systems))[0]][0])
    for system, tables in scores.items():
        for seed, table in zip(seeds, tables, strict=False):
            found = _judged_utterances(table)
            if not found <= expected or (system not in external and found != expected):
                raise HproError(
                    f"{system}, seed {seed}, was judged on other utterances than {systems[0]}: "
                    f"run `hpro synthesise` and `hpro judge` again for the outdated one"
                )
    return scores


def cautions_of(
    root: Path, systems: Sequence[str], seeds: Sequence[int], external: Collection[str] = ()
) -> list[str]:
    """Return the warnings that every table of these systems shows.

    They name the judges that are not independent, the test sets that the affect judge was not
    trained on, the sentences that an external system lacks, and the policies whose checkpoint
    judges chose.

    Raises:
        HproError: different models judged the systems, or a file does not name them.
    """
    judged = [(name, seed) for name in systems for seed in _seeds_of(name, seeds, external)]
    paths = [root / "eval" / name / f"seed{seed}" / "metrics.json" for name, seed in judged]
    judges = common_provenance(paths)
    found = [*independence_warnings(judges, METRIC_NAMES), *judges.affect_notes.values()]
    lacking = (
        import_note(path.parent, name)
        for (name, _), path in zip(judged, paths, strict=True)
        if name in external
    )
    found += [note for note in lacking if note]
    if probed := [name for name in systems if _was_probed(root, name, seeds)]:
        found.append(
            f"Embedded judges chose the kept step of {', '.join(probed)} (reward.probe_every) by "
            "wVAD-CCC, EMO-SIM and WER on dev. Where the same judges score the tables, these "
            "policies have an advantage over policies that no judge chose."
        )
    return found


def _was_probed(root: Path, system: str, seeds: Sequence[int]) -> bool:
    """Whether judges chose the kept step of a policy's training."""
    paths = [root / "policy" / system / f"seed{seed}" / "metrics.json" for seed in seeds]
    return any("kept_step" in read_json(path) for path in paths if path.is_file())


def _seeds_of(system: str, seeds: Sequence[int], external: Collection[str]) -> Sequence[int]:
    return seeds[:1] if system in SEEDLESS or system in external else seeds


def _judged_utterances(table: pd.DataFrame) -> set[tuple[str, bool]]:
    """Judged utterances, and whether DNSMOS scored each of them."""
    return set(zip(table["utt_id"], table["dnsmos"].notna(), strict=True))


def _read(root: Path, system: str, seed: int) -> pd.DataFrame:
    path = root / "eval" / system / f"seed{seed}" / "scores.parquet"
    if not path.is_file():
        raise HproError(
            f"{path} does not exist, but a table has the row {system!r}: run "
            f"`hpro judge {system} --seed {seed}`, or remove the row from tables in params.yaml"
        )
    records.check(root, path, system, seed)
    return read_table(path, SCORES).sort_values("utt_id").reset_index(drop=True)


def summarise(scores: Scores, draws: int, seed: int) -> pd.DataFrame:
    """Aggregate scores to COLUMNS, over all seeds: one row per system and test set."""
    metrics = judged_metrics(scores)
    rows = []
    for system, tables in scores.items():
        for test_set in test_sets(scores):
            chosen = select_test_set(tables, test_set)
            if chosen[0].empty:  # an external system without audio of this set
                continue
            found = [system, test_set, *counts(chosen).values(), len(chosen)]
            rows.append([*found, *metric_values(chosen, metrics, draws, seed)])
    first = ["system", "test_set", *COUNTS, "seeds"]
    return pd.DataFrame(rows, columns=[*first, *metric_columns(metrics)])


def judged_metrics(scores: Scores) -> list[str]:
    """Return METRICS, and those of BROUGHT_METRICS that were judged."""
    return metrics_of([table for tables in scores.values() for table in tables])


def metric_values(
    chosen: Sequence[pd.DataFrame], metrics: Iterable[str], draws: int, seed: int
) -> list[float]:
    """Compute the `metric_columns` of one system on one test set; one SCORES table per seed."""
    return [end for m in metrics for end in interval(ratio(chosen, m), draws, seed)]


def test_sets(scores: Scores) -> list[str]:
    """Return the test sets of all systems, sorted."""
    return sorted({name for tables in scores.values() for name in tables[0]["corpus"].unique()})


def select_test_set(tables: Sequence[pd.DataFrame], test_set: str) -> list[pd.DataFrame]:
    """Select the rows of one test set."""
    return [table[table["corpus"] == test_set] for table in tables]


def differences(
    scores: Scores, systems: Iterable[str], baseline: str, settings: Evaluate
) -> pd.DataFrame:
    """Compute the paired differences, system minus baseline, in each metric on each test set.

    They are over the `n` utterances that both have. A system of one seed is compared with each seed
    of the baseline.
    """
    rows = []
    for system in systems:
        for test_set in test_sets(scores):
            of_system, of_baseline = (
                select_test_set(scores[name], test_set) for name in (system, baseline)
            )
            for metric in judged_metrics(scores):
                own, other = paired_ratios(of_system, of_baseline, metric)
                gap = paired_difference(own, other, settings.bootstrap_samples, settings.seed)
                if not math.isnan(gap.value):
                    rows.append([system, test_set, metric, own.numerator_SN.shape[1], *gap])
    columns = ["system", "test_set", "metric", "n", f"above_{baseline}", "lo", "hi"]
    return pd.DataFrame(rows, columns=columns)


def paired_ratios(
    system: Sequence[pd.DataFrame], baseline: Sequence[pd.DataFrame], metric: str
) -> tuple[Ratio, Ratio]:
    """Return a metric of two systems on the utterances that were scored for both.

    Args:
        system: SCORES tables of one test set, one per seed, sorted by utt_id.
        baseline: the same; a system of one seed is paired with every seed of the other.
        metric: as for `ratio`.

    Returns:
        Ratios of the same shape, for `paired_difference`.
    """
    shared = list(
        set.intersection(*(set(s["utt_id"]) for s in scored([*system, *baseline], metric)))
    )
    n_seeds = max(len(system), len(baseline))
    own, other = (
        ratio([table[table["utt_id"].isin(shared)] for table in tables], metric)
        for tables in (
            tables if len(tables) > 1 else [*tables] * n_seeds for tables in (system, baseline)
        )
    )
    return own, other


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format cells as a Markdown table, with a line break at its end."""
    lines = ["| " + " | ".join(cells) + " |\n" for cells in (header, *rows)]
    return "".join([lines[0], "|" + "---|" * len(header) + "\n", *lines[1:]])


def markdown(table: pd.DataFrame) -> str:
    """Format a table of COLUMNS as Markdown, values with 95 % intervals.

    A second table has the prosody and the quality judges whose weights the user brought.
    """
    brought = [metric for metric in BROUGHT_METRICS if metric in table]
    counted = [("n", "n"), ("words found", "n_wvad"), ("checked", "n_checked"), ("seeds", "seeds")]
    main = _markdown(table, counted, SPEECH_METRICS)
    return f"{main}\nProsody against the recording:\n\n" + _markdown(
        table, counted[1:2], (*PROSODY_METRICS, *brought)
    )


def _markdown(
    table: pd.DataFrame, counted: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> str:
    names = (METRIC_NAMES[metric] for metric in metrics)
    header = ["system", "test set", *(name for name, _ in counted), *names]
    rows = []
    for row in table.to_dict("records"):
        cells = [row["system"], row["test_set"]]
        cells += [f"{round(row[column], 1):g}" for _, column in counted]
        for metric in metrics:
            value, lo, hi = (row[f"{metric}{end}"] for end in ("", "_lo", "_hi"))
            cells.append("–" if math.isnan(value) else f"{value:.3f} [{lo:.3f}, {hi:.3f}]")
        rows.append(cells)
    return markdown_table(header, rows)
