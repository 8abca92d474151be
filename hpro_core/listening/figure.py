"""The figure of the results: means with intervals, as SVG that follows a light or dark page."""

from html import escape

import numpy as np
import pandas as pd

WIDTH = 400
_LEFT, _RIGHT, _ROW, _TOP = 112, 14, 26, 26
_STYLE = (
    ".mos{--ink:#1d2730;--grid:#c5ccd2;--dot:#1f5d9c}"
    "@media (prefers-color-scheme:dark){.mos{--ink:#e8edf1;--grid:#4a545d;--dot:#8cc0f2}}"
    ".mos text{font:13px system-ui,sans-serif;fill:var(--ink)}.mos .head{font-weight:600}"
    ".mos .grid{stroke:var(--grid)}.mos .span{stroke:var(--dot);stroke-width:3}"
    ".mos circle{fill:var(--dot)}"
)


def means_figure(means: pd.DataFrame) -> str:
    """Draw the means of systems from 1 to 5 with their intervals, one panel per part.

    Args:
        means: columns part, system, mean, lo, hi; rows without a mean are left out.
    """
    rows: list[str] = []
    top = 0
    for part in dict.fromkeys(means["part"]):
        of = means[(means["part"] == part) & means["mean"].notna()].to_dict("records")
        height = _TOP + _ROW * len(of)
        rows.append(_text(_LEFT, top + 17, part, "start", "head"))
        for tick in range(1, 6):
            x = _x(tick)
            rows.append(
                f'<line class="grid" x1="{x:g}" y1="{top + _TOP}" x2="{x:g}" y2="{top + height}"/>'
            )
            rows.append(_text(x, top + height + 15, str(tick), "middle"))
        for place, row in enumerate(of):
            y = top + _TOP + _ROW * (place + 0.5)
            rows.append(_text(_LEFT - 10, y + 4, _short(str(row["system"])), "end"))
            if not np.isnan(row["lo"]):
                low, high = (_x(float(np.clip(row[end], 1, 5))) for end in ("lo", "hi"))
                rows.append(
                    f'<line class="span" x1="{low:.1f}" y1="{y:g}" x2="{high:.1f}" y2="{y:g}"/>'
                )
            rows.append(f'<circle cx="{_x(row["mean"]):.1f}" cy="{y:g}" r="5"/>')
        top += height + 30
    return (
        f'<svg class="mos" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
        f'role="img" aria-label="Mean ratings with 95 % intervals"><style>{_STYLE}</style>'
        f"{''.join(rows)}</svg>\n"
    )


def _x(score: float) -> float:
    return _LEFT + (score - 1) / 4 * (WIDTH - _LEFT - _RIGHT)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= 15 else f"{name[:14]}…"
