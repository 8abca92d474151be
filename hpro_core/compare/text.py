"""A comparison as text for a terminal of 80 columns."""

import textwrap

from hpro_core.analysis.tables import METRIC_NAMES
from hpro_core.compare.differences import Compared, Pair
from hpro_core.report.comparison import Difference, signed
from hpro_core.report.figures import shorten
from hpro_core.report.page import cell

MAIN = ("wer", "wvad_ccc", "emo_sim", "dnsmos", "f0_corr")
"""Metrics of the table of all systems."""

_WIDTH = 79


def as_text(compared: Compared) -> str:
    """Format a comparison for a terminal of 80 columns, with a line break at its end."""
    parts = [part for pair in compared.pairs for part in _parts(pair, compared)]
    parts += [_wrapped(f"Note: {note}") for note in compared.notes]
    return "\n\n".join(parts) + "\n"


def _parts(pair: Pair, compared: Compared) -> list[str]:
    """Headline, the headline's system in all metrics, and all systems in the main ones."""
    tables = []
    for each in pair.of(compared.system):
        lines = [f"{each.system} on {each.test_set}: {pair.run} minus {pair.first}"]
        lines.append(
            f"{'':19}{'n':>4}{_short(pair.first):>13}{_short(pair.run):>13}   "
            "difference, 95 % interval"
        )
        lines += [
            f"{METRIC_NAMES[row.metric]:19}{row.n:>4}"
            f"{cell(row.metric, row.baseline.value):>13}{cell(row.metric, row.system.value):>13}"
            f"   {signed(row.metric, row.difference)}{_star(row)}"
            for row in each.rows
        ]
        tables.append("\n".join(lines))
    return [_wrapped(pair.headline), *tables, _all_systems(pair, compared)]


def _all_systems(pair: Pair, compared: Compared) -> str:
    metrics = compared.metrics(MAIN)
    lines = [
        "All systems: differences, WER in points (*: the interval excludes zero)",
        " " * 28 + "".join(f"{METRIC_NAMES[metric]:>10}" for metric in metrics),
    ]
    same = pair.without_difference()
    for test_set in compared.test_sets:
        for each in pair.found:
            if each.test_set == test_set and each.system not in same:
                cells = "".join(f"{_gap(each.of(metric)):>10}" for metric in metrics)
                names = f"{shorten(test_set):14}{shorten(each.system):14}"
                lines.append(names + cells.rstrip())
    if same:
        lines.append(_wrapped(f"The same in every metric: {', '.join(same)}"))
    return "\n".join(lines)


def _gap(row: Difference | None) -> str:
    if row is None:
        return "–"
    return signed(row.metric, row.difference).split(" ")[0] + _star(row)


def _star(row: Difference) -> str:
    return "*" if row.shown else ""


def _short(run: str) -> str:
    return shorten(run, 12)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)
