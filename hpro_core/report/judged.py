"""The page of `hpro judge --audio`: one table, paired differences, audio, and the judges."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpro_core.analysis.scores import BROUGHT_METRICS, METRICS
from hpro_core.judges.asr import WordErrorCounter
from hpro_core.judges.audio import LIST, notes_of
from hpro_core.judges.provenance import read_provenance
from hpro_core.report import figures, provenance
from hpro_core.report.measured import measurements
from hpro_core.report.page import write_page
from hpro_core.report.samples import Sample, System, evenly_spaced, load_system, system_sample

BASELINE_COLUMN = 4
"""Place of the difference among the columns of differences.csv; its name has the baseline's."""


def build_judged(
    out: Path, name: str, systems: Sequence[str], list_name: str, per_set: int
) -> Path:
    """Write report/index.html of judged audio; returns its path.

    Args:
        out: output folder of `judge_audio`.
        name: title of the page.
        systems: rows of its table, in order.
        list_name: the list of sentences, to be shown.
        per_set: number of sentences with players, per test set.

    Raises:
        HproError: an output of `judge_audio` is missing.
    """
    table = pd.read_csv(out / "tables" / "comparison.csv")
    gaps = pd.read_csv(out / "tables" / "differences.csv")
    loaded = [load_system(out, name, 0) for name in systems]
    shown = [m for m in (*METRICS, *BROUGHT_METRICS) if m in table and table[m].notna().any()]
    accuracy = out / "judge" / "metrics.json"
    context = {
        "name": name,
        "list_name": list_name,
        "date": provenance.date_of([out / LIST]),
        "revision": provenance.git_revision(),
        "versions": provenance.versions(),
        "rows": table.to_dict("records"),
        "gaps": gaps.to_dict("records"),
        "baseline": gaps.columns[BASELINE_COLUMN].removeprefix("above_"),
        "metrics": shown,
        "absent": [figures.METRIC_NAMES[m] for m in METRICS if m not in shown],
        "metric_names": figures.METRIC_NAMES,
        "notes": notes_of(out, systems),
        "samples": _samples(loaded, per_set),
        "judged_by": sorted(
            read_provenance(out / "eval" / systems[0] / "seed0" / "metrics.json").judges.items()
        ),
        "accuracy": measurements(accuracy, "hpro judge --audio") if accuracy.is_file() else [],
    }
    return write_page(out / "report" / "index.html", "judged.html", context)


def _samples(systems: Sequence[System], per_set: int) -> list[Sample]:
    """Evenly spaced sentences of each test set, among those that most systems have."""
    rows = {utt_id: row for system in systems for utt_id, row in system.synthesis.items()}
    spoken = Counter(utt_id for system in systems for utt_id in system.scores)
    chosen: list[str] = []
    for test_set in dict.fromkeys(row["corpus"] for row in rows.values()):
        ids = [utt_id for utt_id, row in rows.items() if row["corpus"] == test_set]
        most = max(spoken[utt_id] for utt_id in ids)
        chosen += evenly_spaced(sorted(u for u in ids if spoken[u] == most), per_set)
    counter = WordErrorCounter()
    return [
        Sample(
            utt_id=utt_id,
            corpus=rows[utt_id]["corpus"],
            speaker=rows[utt_id]["speaker"],
            text=(text := rows[utt_id]["text"]),
            systems=[
                system_sample(system, utt_id, counter.count(text, text).transcript)
                for system in systems
                if utt_id in system.scores
            ],
        )
        for utt_id in chosen
    ]
