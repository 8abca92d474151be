"""Small inline SVG plots. Colours and fonts come from the page's style, by class.

A panel is drawn in user units of about one CSS pixel and scales with the column that it is in.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape

WIDTH, HEIGHT = 240, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 6, 18
MAX_POINTS = 240
"""Longest line, in points; longer series are thinned."""


class Panel:
    """One plot with linear axes.

    Values that are not finite are left out; a line has a gap there.

    Args:
        x, y: values that the axes must contain; non-finite ones are ignored.
        height: in user units.
        left: width of the margin with the labels of the y axis.
        numbered: whether the y axis has numbers; otherwise `label_row` labels it.
    """

    def __init__(
        self,
        x: Iterable[float],
        y: Iterable[float],
        height: int = HEIGHT,
        left: int = _LEFT,
        numbered: bool = True,
    ) -> None:
        self._height, self._left, self._numbered = height, left, numbered
        self._x, self._y = extent(x), extent(y)
        self._drawn: list[str] = []

    def line(self, x: Sequence[float], y: Sequence[float], style: str, title: str = "") -> None:
        """Draw a line through points; `style` is its class."""
        step = max(1, math.ceil(len(x) / MAX_POINTS))
        kept = [*range(0, len(x) - 1, step), len(x) - 1] if len(x) else []
        parts: list[list[str]] = [[]]
        for i in kept:
            if math.isfinite(x[i]) and math.isfinite(y[i]):
                parts[-1].append(f"{self._px(x[i])} {self._py(y[i])}")
            elif parts[-1]:
                parts.append([])
        path = "".join(f"M{'L'.join(part)}" for part in parts if part)
        if path:
            self._drawn.append(
                f'<path class="line {style}" d="{path}">{_title(title)}</path>'
                if title
                else f'<path class="line {style}" d="{path}"/>'
            )

    def dot(self, x: float, y: float, style: str, title: str) -> None:
        """Draw a point with a tooltip."""
        if math.isfinite(x) and math.isfinite(y):
            self._drawn.append(
                f'<circle class="dot {style}" cx="{self._px(x)}" cy="{self._py(y)}" r="3.2">'
                f"{_title(title)}</circle>"
            )

    def bar(self, low: float, high: float, y: float, style: str) -> None:
        """Draw a horizontal interval."""
        if math.isfinite(low) and math.isfinite(high):
            height = self._py(y)
            self._drawn.append(
                f'<path class="interval {style}" d="M{self._px(low)} {height}H{self._px(high)}"/>'
            )

    def mark(self, x: float, style: str, title: str) -> None:
        """Draw a vertical line over the whole height, with a tooltip."""
        if math.isfinite(x):
            top, bottom = _TOP, self._height - _BOTTOM
            self._drawn.append(
                f'<path class="mark {style}" d="M{self._px(x)} {top}V{bottom}">'
                f"{_title(title)}</path>"
            )

    def note(self, x: float, text: str) -> None:
        """Write a word at the top of the plot, to the right of `x`."""
        self._drawn.append(
            f'<text class="note" x="{self._px(x)}" y="13" dx="3">{escape(text)}</text>'
        )

    def label_row(self, y: float, text: str) -> None:
        """Write a label left of the axis."""
        self._drawn.append(
            f'<text class="tick" x="{self._left - 5}" y="{self._py(y)}" dy=".32em" '
            f'text-anchor="end">{escape(text)}</text>'
        )

    def render(self, label: str) -> str:
        """Return the <svg> element; `label` describes it to a screen reader."""
        bottom = self._height - _BOTTOM
        found = [
            f'<svg class="plot" viewBox="0 0 {WIDTH} {self._height}" role="img" '
            f'aria-label="{escape(label)}">'
        ]
        for value in ticks(*self._x, 3):
            x = self._px(value)
            found.append(f'<path class="grid" d="M{x} {_TOP}V{bottom}"/>')
            found.append(
                f'<text class="tick" x="{x}" y="{bottom + 13}" text-anchor="middle">'
                f"{value:g}</text>"
            )
        if self._numbered:
            for value in ticks(*self._y, 3):
                y = self._py(value)
                found.append(f'<path class="grid" d="M{self._left} {y}H{WIDTH - _RIGHT}"/>')
                found.append(
                    f'<text class="tick" x="{self._left - 4}" y="{y}" dy=".32em" '
                    f'text-anchor="end">{value:g}</text>'
                )
        return "".join([*found, *self._drawn, "</svg>"])

    def _px(self, x: float) -> str:
        low, high = self._x
        inner = WIDTH - self._left - _RIGHT
        return f"{self._left + inner * (x - low) / (high - low):.1f}"

    def _py(self, y: float) -> str:
        low, high = self._y
        inner = self._height - _TOP - _BOTTOM
        return f"{self._height - _BOTTOM - inner * (y - low) / (high - low):.1f}"


def without_plot(reason: str) -> str:
    """Return an <svg> element that says why there is no plot."""
    said = escape(reason)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f'<text class="note" x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">{said}</text>'
        "</svg>"
    )


def extent(values: Iterable[float]) -> tuple[float, float]:
    """Return a range around the finite values, never empty, with a margin of 4 %."""
    finite = [float(value) for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.04 * (high - low) if high > low else max(abs(low) * 0.1, 0.5)
    return low - margin, high + margin


def ticks(low: float, high: float, at_least: int) -> list[float]:
    """Return round values inside a range: multiples of 1, 2 or 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(high - low))
    for step in (5 * unit, 2 * unit, unit, unit / 2, unit / 5, unit / 10):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 >= at_least:
            return [round(number * step, 12) for number in range(first, last + 1)]
    raise AssertionError("a tenth of the range fits at least nine times")


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"
