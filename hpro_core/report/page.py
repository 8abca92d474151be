"""HTML pages of results: templates, style and script in one file; formats of their values."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hpro_core.analysis.scores import QUALITY_METRICS
from hpro_core.html import environment
from hpro_core.io import write_text
from hpro_core.report import comparison, figures
from hpro_core.report.measured import by_group

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = (
    *("summary.html", "listen.html", "results.html", "groups.html", "orderings.html"),
    *("training.html", "judges.html", "data.html", "limitations.html", "settings.html"),
)
"""Sections of the report of a run, in their order. `page.html` includes them; `judged.html` is the
other page, and both use `macros.html`."""


def write_page(path: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Render a template of the folder `templates`; returns the page's path."""
    templates = environment(
        TEMPLATES,
        "page.css",
        cell=cell,
        span=span,
        signed=comparison.signed,
        style_of=figures.style_of,
        sections=SECTIONS,
    )
    templates.filters.update(by_group=by_group, unhashed=unhashed, short_revision=short_revision)
    page = templates.get_template(template).render(**context)
    write_text(path, page)
    return path


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


def unhashed(name: str) -> str:
    """Return the description of a model without its SHA-256, which the page shows elsewhere."""
    return name.split(", sha256 ")[0]


def short_revision(revision: str) -> str:
    """Shorten the hash of a git revision to twelve digits; the rest of the text stays."""
    return re.sub(r"^([0-9a-f]{12})[0-9a-f]{28}", r"\1", revision)
