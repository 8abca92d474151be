"""Figures of the report, each a list of small plots: intervals of systems, training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hpro_core.analysis.scores import SPEECH_METRICS
from hpro_core.errors import HproError
from hpro_core.io import CURVES, read_csv_table
from hpro_core.report.svg import Panel, without_plot

METRIC_NAMES = {
    "wer": "WER (%) ↓",
    "wer_check": "WER (second ASR) ↓",
    "wvad_ccc": "wVAD-CCC ↑",
    "emo_sim": "EMO-SIM ↑",
    "dnsmos": "DNSMOS ↑",
    "distillmos": "DistillMOS ↑",
    "speaker_sim": "SPK-SIM ↑",
    "f0_corr": "F0 ↑",
    "energy_corr": "energy ↑",
    "rate_corr": "rate ↑",
    "pause_f1": "pauses ↑",
    "utmos": "UTMOS ↑",
    "nisqa": "NISQA ↑",
    "scoreq": "SCOREQ ↑",
}
PERCENT = ("wer", "wer_check")
"""Metrics that are fractions in the tables and percentages in the report."""

MAIN_SYSTEMS = ("recordings", "tokenrecon", "sft", "frame", "word", "hpro")
"""Systems that are shown first, in this order: ceilings, then the training stages. Each has a
colour of its own; the others share one."""

_LABELS = 78  # user units for the names of systems
_ROW = 15  # user units for each system


class Plot(NamedTuple):
    """One small plot of a figure."""

    title: str
    svg: str


class Curves(NamedTuple):
    """The curves of one training: a table per seed with the columns step, split, term, value."""

    name: str
    tables: list[pd.DataFrame]

    @property
    def steps(self) -> int:
        """Number of the last step that any seed logged."""
        return max(int(table["step"].max()) for table in self.tables)


def style_of(system: str) -> str:
    """Return the class of a system's colour."""
    return f"s-{system}" if system in MAIN_SYSTEMS else "s-other"


def shorten(name: str, length: int = 13) -> str:
    """Shorten a name for the margin of a plot."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def scaled(metric: str, value: float) -> float:
    """Return a value of the tables in the unit of the report."""
    return 100 * value if metric in PERCENT else value


def intervals(rows: pd.DataFrame) -> list[Plot]:
    """Plot every system's metrics on one test set as points with 95 % intervals, a plot per metric.

    Each row has a system, with the columns of the result tables. A metric without any value is
    marked as not judged.
    """
    order = [*SPEECH_METRICS, *(m for m in METRIC_NAMES if m not in SPEECH_METRICS)]
    return [
        Plot(METRIC_NAMES[metric], _interval_plot(rows, metric))
        for metric in order
        if metric in rows
    ]


def _interval_plot(rows: pd.DataFrame, metric: str) -> str:
    if rows[metric].isna().all():
        return without_plot("not judged")
    values = [
        (row["system"], *(scaled(metric, row[metric + end]) for end in ("", "_lo", "_hi")))
        for row in rows.to_dict("records")
    ]
    panel = Panel(
        x=[number for row in values for number in row[1:]],
        y=[0.0, float(max(1, len(values) - 1))],
        height=30 + _ROW * max(2, len(values)),
        left=_LABELS,
        numbered=False,
    )
    for place, (system, value, low, high) in enumerate(values):
        height = float(max(1, len(values) - 1) - place)
        panel.label_row(height, shorten(system))
        panel.bar(low, high, height, style_of(system))
        panel.dot(value, height, style_of(system), f"{system}: {value:.4g} [{low:.4g}, {high:.4g}]")
    said = "; ".join(f"{system} {value:.3g}" for system, value, _, _ in values)
    return panel.render(f"{METRIC_NAMES[metric]}: {said}")


def training_files(
    root: Path, trainings: Mapping[str, str], seeds: Sequence[int]
) -> dict[str, list[Path]]:
    """Find the training.csv of each training of a run: one path per seed for policies, else one.

    Trainings map a folder below `root`, as the result does, to the command of the training.

    Raises:
        HproError: a file is missing.
    """
    found: dict[str, list[Path]] = {}
    for name, command in trainings.items():
        of_seeds = [f"seed{seed}/" for seed in seeds] if name.startswith("policy/") else [""]
        found[name] = [root / name / f"{of_seed}training.csv" for of_seed in of_seeds]
        if missing := [path for path in found[name] if not path.is_file()]:
            raise HproError(f"{missing[0]} does not exist: run `{command}` first")
    return found


def read_curves(name: str, paths: Sequence[Path]) -> Curves:
    """Read the training.csv of each seed of a training.

    Raises:
        HproError: a file lacks a column or is empty.
    """
    tables = [read_csv_table(path, CURVES, ("split", "term"), "train again") for path in paths]
    return Curves(name, tables)


def training_curves(stages: Sequence[Curves]) -> list[Plot]:
    """Plot every term of one or several trainings, one after another, a plot per term.

    A vertical line is the start of each training after the first. Terms that were logged at
    one step only have no plot.
    """
    terms = dict.fromkeys(
        term for stage in stages for table in stage.tables for term in table["term"]
    )
    starts, at = [], 0
    for stage in stages:
        starts.append(at)
        at += stage.steps
    plots = (_term_plot(stages, starts, term) for term in terms)
    return [plot for plot in plots if plot is not None]


def _term_plot(stages: Sequence[Curves], starts: Sequence[int], term: str) -> Plot | None:
    lines = [
        (start, split, rows.sort_values("step"))
        for stage, start in zip(stages, starts, strict=True)
        for table in stage.tables
        for split, rows in table[table["term"] == term].groupby("split", sort=False)
    ]
    if len({start + step for start, _, rows in lines for step in rows["step"]}) < 2:
        return None
    panel = Panel(
        x=[*starts, *(start + step for start, _, rows in lines for step in rows["step"])],
        y=[float(value) for _, _, rows in lines for value in rows["value"]],
    )
    if len(stages) > 1:
        for stage, start in zip(stages, starts, strict=True):
            panel.mark(start, "stage", f"{stage.name} starts at step {start}")
            panel.note(start, shorten(stage.name.removeprefix("policy/"), 10))
    said = []
    for start, split, rows in lines:
        values = [float(value) for value in rows["value"]]
        steps = [start + int(step) for step in rows["step"]]
        if len(steps) == 1:
            panel.dot(steps[0], values[0], f"l-{split}", f"{split} {values[0]:.3g}")
        panel.line(steps, values, f"l-{split}", str(split))
        said.append(f"{split} from {values[0]:.3g} to {values[-1]:.3g}")
    return Plot(term, panel.render(f"{term} over steps: {'; '.join(said[:6])}"))
