"""Inline SVG figures: results with intervals, training curves, affect over words.

A function that plots returns one <svg> element.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hpro_core.analysis.scores import SPEECH_METRICS
from hpro_core.constants import VAD
from hpro_core.errors import HproError
from hpro_core.io import CURVES, read_csv_table

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

TERM_COLOURS = {"train": "#9aa5b1", "dev": "#c8442d", "probe": "#2f6db5"}
SYSTEM_COLOURS = {
    "truth": "#000000",
    "recordings": "#444444",
    "tokenrecon": "#9aa5b1",
    "sft": "#2f6db5",
    "frame": "#2a9d8f",
    "word": "#e0a100",
    "hpro": "#c8442d",
}
"""Colours of the main systems; ablations share OTHER_COLOUR."""

OTHER_COLOUR = "#c9bfd6"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hpro",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}


def intervals(rows: pd.DataFrame) -> str:
    """Plot every system's metrics on one test set as points with 95 % intervals.

    Each row has a system, with the columns of the result tables. Speech and prosody are on two
    lines; judges whose weights the user brought are with prosody. A metric without any value is
    marked as not judged.
    """
    second = [metric for metric in METRIC_NAMES if metric in rows and metric not in SPEECH_METRICS]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 1.5 + 0.52 * len(rows)), layout="constrained")
        axes = figure.subplots(2, len(SPEECH_METRICS), sharey=True)
        drawn = [*SPEECH_METRICS, *second]
        for axis, metric in zip(axes.flat[: len(drawn)], drawn, strict=True):
            scale = 100 if metric in PERCENT else 1
            for height, row in enumerate(rows.to_dict("records")):
                value, low, high = (scale * row[metric + end] for end in ("", "_lo", "_hi"))
                colour = SYSTEM_COLOURS.get(row["system"], OTHER_COLOUR)
                axis.plot([low, high], [height, height], color=colour, linewidth=2)
                axis.plot(value, height, "o", color=colour, markersize=4)
            axis.set_title(METRIC_NAMES[metric])
            axis.grid(axis="x", color="#eeeeee")
            if rows[metric].isna().all():
                axis.text(0.5, 0.5, "not judged", transform=axis.transAxes, ha="center")
                axis.set_xticks([])
        for axis in axes[1, len(second) :]:
            axis.set_axis_off()
        axes[0, 0].set_yticks(range(len(rows)), rows["system"].tolist())
        axes[0, 0].invert_yaxis()
        return _svg(figure)


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


def training_curves(paths: Sequence[Path]) -> str:
    """Plot every term of one training over its steps, one panel per term.

    Each seed has a training.csv, with the columns step, split, term, value.

    Raises:
        HproError: a file lacks a column or is empty.
    """
    curves = [read_csv_table(path, CURVES, ("split", "term"), "train again") for path in paths]
    terms = list(dict.fromkeys(term for table in curves for term in table["term"]))
    columns = min(5, len(terms))
    lines = -(-len(terms) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 1.7 * lines), layout="constrained")
        axes = figure.subplots(lines, 5, squeeze=False).ravel()
        for axis, term in zip(axes, terms, strict=False):
            for table in curves:
                _draw_term(axis, table[table["term"] == term])
            axis.set_title(term)
            axis.tick_params(labelsize=7)
        for axis in axes[len(terms) :]:
            axis.set_axis_off()
        return _svg(figure)


def word_traces(words: Sequence[str], traces: Mapping[str, pd.DataFrame]) -> str:
    """Plot valence, arousal and dominance of each word, one line per system.

    Each trace is a table with word_index and the three dimensions.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.5), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for axis, dimension in zip(axes, VAD, strict=True):
            for name, table in traces.items():
                rows = table.sort_values("word_index")
                axis.plot(
                    rows["word_index"].to_numpy(),
                    rows[dimension].to_numpy(),
                    label=name if name in SYSTEM_COLOURS else "ablations",
                    **_line(name),
                )
            axis.set_title(dimension)
            axis.set_ylim(0, 1)
            axis.set_xticks(range(len(words)), words, rotation=50, ha="right", fontsize=7)
        handles, names = axes[0].get_legend_handles_labels()
        entries = dict(zip(names, handles, strict=True))  # one legend entry for all ablations
        figure.legend(
            [*entries.values()], [*entries], loc="outside right center", fontsize=7, frameon=False
        )
        return _svg(figure)


def _line(name: str) -> dict:
    if name == "truth":
        return {"color": SYSTEM_COLOURS[name], "linewidth": 2.2, "linestyle": ":"}
    width = 1.4 if name in SYSTEM_COLOURS else 0.7
    return {"color": SYSTEM_COLOURS.get(name, OTHER_COLOUR), "linewidth": width}


def _draw_term(axis, rows: pd.DataFrame) -> None:
    for split, colour in TERM_COLOURS.items():
        part = rows[rows["split"] == split].sort_values("step")
        marker = "." if split == "dev" else None
        values = part["value"].to_numpy(dtype=np.float64)
        axis.plot(part["step"].to_numpy(), values, color=colour, marker=marker, linewidth=1)


def _svg(figure: Figure) -> str:
    """Render the figure as an <svg> element; the output is deterministic."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def unique_ids(svgs: Iterable[str]) -> list[str]:
    """Make the element ids of several figures unique, so that they can share one page."""
    renamed = []
    for number, svg in enumerate(svgs):
        svg = re.sub(r'\bid="', f'id="f{number}-', svg)
        svg = re.sub(r'(xlink:href|href)="#', rf'\1="#f{number}-', svg)
        renamed.append(re.sub(r"url\(#", f"url(#f{number}-", svg))
    return renamed
