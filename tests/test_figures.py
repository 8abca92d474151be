"""The figures in README and the quick start are those of the files that they are from."""

import io
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from hpro_core.report import results

REPO = Path(__file__).parents[1]
TABLES = "results/embedded/tables"
DIFFERENCES = (("wer", 100, 1), ("wvad_ccc", 1, 3), ("emo_sim", 1, 3))
"""Metric of a column of differences in README, its factor and decimals."""


def rows_below(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its two head lines."""
    lines = text[text.index(heading) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    cells = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        cells.append([re.sub(r"[`*]", "", cell).strip() for cell in line.strip("|").split("|")])
    return cells


def test_the_table_in_readme_is_that_of_the_claims() -> None:
    claims = pd.read_csv(REPO / "docs/claims.csv", dtype={"seed": str})
    chosen = claims[(claims["test_set"] == "controlled") & (claims["seed"] == "all")]
    means = chosen.set_index("system")
    tests = pd.read_csv(REPO / "docs/claims_tests.csv")
    gaps = tests[tests["test_set"] == "controlled"].set_index(["system", "metric"])
    rows = rows_below((REPO / "README.md").read_text(encoding="utf-8"), "## Result")
    assert len(rows) == len(means)
    for system, *cells in rows:
        row = means.loc[system]
        found = [f"{100 * row['wer']:.1f}", f"{row['wvad_ccc']:.3f}", f"{row['emo_sim']:.3f}"]
        for metric, factor, decimals in DIFFERENCES:
            if (system, metric) in gaps.index:
                gap = factor * gaps.loc[(system, metric), ["above_sft", "lo", "hi"]].astype(float)
                value, lo, hi = (f"{number:+.{decimals}f}" for number in gap)
                found.append(f"{value} [{lo}, {hi}]")
            else:
                found.append("")
        assert cells == found, system


@pytest.mark.parametrize(("test_set", "affect"), [("controlled", True), ("acted", False)])
def test_the_tables_in_the_quick_start_are_those_of_the_committed_run(
    test_set: str, affect: bool
) -> None:
    names = _git("ls-files", *(f"{TABLES}/{name}.csv" for name in results.TABLES)).split()
    assert names, f"git has no {TABLES}: CONTRIBUTING.md says how to commit the default run"
    tables = [pd.read_csv(io.StringIO(_git("show", f":{name}"))) for name in names]
    table = pd.concat(tables).drop_duplicates()
    means = table[table["test_set"] == test_set].set_index("system")
    quick_start = (REPO / "docs/quickstart.md").read_text(encoding="utf-8")
    rows = rows_below(quick_start, f"### `{test_set}`")
    assert {row[0] for row in rows} == set(means.index)
    for system, *cells in rows:
        assert cells == cells_of(means.loc[system], affect), system


def cells_of(row: pd.Series, affect: bool) -> list[str]:
    """Cells of a row of the quick start: WER in percent, intervals without those of the checks.

    Without the columns of affect where it is not judged.
    """

    def with_interval(metric: str, factor: float, decimals: int) -> str:
        ends = (factor * row[f"{metric}{end}"] for end in ("", "_lo", "_hi"))
        value, lo, hi = (f"{number:.{decimals}f}" for number in ends)
        return f"{value} [{lo}, {hi}]"

    return [
        with_interval("wer", 100, 1),
        f"{100 * row['wer_check']:.1f}",
        *((with_interval(metric, 1, 2) for metric in ("wvad_ccc", "emo_sim")) if affect else ()),
        f"{row['dnsmos']:.2f}",
        f"{row['speaker_sim']:.2f}",
    ]


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
