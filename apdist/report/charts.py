"""Line charts as inline SVG that takes its colours from the page, so it follows light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

# About the width of a phone: text keeps its size there and grows a little on a wide screen.
_WIDTH, _HEIGHT = 380, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 12, 40
_MOST_POINTS = 300
_MOST_MARKERS = 40

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    """Shown in the legend."""
    points: tuple[Point, ...]
    """(x, y), x ascending; points that are not finite are left out."""
    look: str
    """CSS class: "after", "before", "second", "third" or "faint" (drawn, not in the legend)."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A titled line chart."""

    title: str
    """Heading."""
    note: str
    """One line below the heading: what is drawn, over what."""
    x_label: str
    """Below the axis."""
    series: tuple[Series, ...]
    """Lines, the last on top."""
    y_from_zero_to_one: bool = True
    """Fix the y axis to [0, 1]; otherwise it fits the data."""


def render_chart(chart: Chart) -> str:
    """``chart`` as an HTML figure; an empty string where fewer than two points can be drawn."""
    drawn = [(line, thin_out(_finite(line.points))) for line in chart.series]
    points = [point for _, line in drawn for point in line]
    if len({x for x, _ in points}) < 2:
        return ""
    x_range = (min(x for x, _ in points), max(x for x, _ in points))
    x_ticks = nice_ticks(*x_range, outside=False)
    y_ticks = _y_ticks(chart, points)
    frame = _Frame(x_range, (y_ticks[0], y_ticks[-1]))
    body = [*_grid(frame, x_ticks, y_ticks), *(_line(frame, line, pts) for line, pts in drawn)]
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(_in_words(chart, drawn))}">{"".join(body)}'
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" '
        f'text-anchor="middle">{escape(chart.x_label)}</text></svg>'
    )
    return (
        f'<figure class="chart card"><figcaption><h3>{escape(chart.title)}</h3>'
        f"<p>{escape(chart.note)}</p>{_legend(drawn)}</figcaption>{svg}</figure>"
    )


def smooth(points: Sequence[Point], share: float = 0.05) -> tuple[Point, ...]:
    """Centred moving mean over ``share`` of the points; narrower towards both ends."""
    finite = _finite(points)
    reach = int(len(finite) * share / 2)
    smoothed = []
    for place, (x, _) in enumerate(finite):
        near = min(reach, place, len(finite) - 1 - place)
        window = finite[place - near : place + near + 1]
        smoothed.append((x, sum(y for _, y in window) / len(window)))
    return tuple(smoothed)


def thin_out(points: Sequence[Point]) -> list[Point]:
    """At most `_MOST_POINTS` points: the mean of each run of neighbours, first and last kept."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = math.ceil((len(points) - 2) / (_MOST_POINTS - 2))
    inner = points[1:-1]
    runs = [inner[start : start + size] for start in range(0, len(inner), size)]
    means = [(sum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]
    return [points[0], *means, points[-1]]


def nice_ticks(low: float, high: float, *, outside: bool, count: int = 5) -> list[float]:
    """Round numbers, about ``count`` steps of 1, 2 or 5 times a power of ten.

    Args:
        low: smallest value to show.
        high: largest value to show.
        outside: reach to the round number beyond both ends; otherwise stay within them.
        count: steps wanted.
    """
    if not high > low:
        low, high = low - max(abs(low), 1) / 2, high + max(abs(high), 1) / 2
    exact = (high - low) / count
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= exact * 0.999)
    first = math.floor(low / step + 1e-9) if outside else math.ceil(low / step - 1e-9)
    last = math.ceil(high / step - 1e-9) if outside else math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


@dataclass(frozen=True)
class _Frame:
    """Maps data to the drawing."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        inside = min(max(value, low), high)
        return round(
            _HEIGHT - _BOTTOM - (inside - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1
        )


def _y_ticks(chart: Chart, points: Sequence[Point]) -> list[float]:
    if chart.y_from_zero_to_one:
        return [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    values = [y for _, y in points]
    # A line from near zero looks steeper than it is unless zero is on the axis.
    low = min(0.0, min(values)) if min(values) < max(values) / 2 else min(values)
    return nice_ticks(low, max(values), outside=True)


def _grid(frame: _Frame, x_ticks: Iterable[float], y_ticks: Iterable[float]) -> Iterable[str]:
    for value in y_ticks:
        y = frame.y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{format_tick(value)}</text>'
    for value in x_ticks:
        x = frame.x(value)
        yield (
            f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">'
            f"{format_tick(value)}</text>"
        )


def _line(frame: _Frame, line: Series, points: Sequence[Point]) -> str:
    if not points:
        return ""
    path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in points)
    drawn = f'<polyline class="line {line.look}" points="{path}"/>'
    if len(points) > _MOST_MARKERS or line.look == "faint":
        return drawn
    dots = (
        f'<circle class="dot {line.look}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3">'
        f"<title>{escape(line.name)}: {y:.4g} at {x:g}</title></circle>"
        for x, y in points
    )
    return drawn + "".join(dots)


def _legend(drawn: Sequence[tuple[Series, Sequence[Point]]]) -> str:
    named = [line for line, points in drawn if points and line.look != "faint"]
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
        f'<line class="line {line.look}" x1="1" x2="23" y1="4" y2="4"/></svg>'
        f"{escape(line.name)}</li>"
        for line in named
    )
    return f'<ul class="legend">{items}</ul>' if len(named) > 1 else ""


def _in_words(chart: Chart, drawn: Sequence[tuple[Series, Sequence[Point]]]) -> str:
    lines = [
        f"{line.name} from {points[0][1]:.3g} at {points[0][0]:g} to {points[-1][1]:.3g} "
        f"at {points[-1][0]:g}"
        for line, points in drawn
        if points and line.look != "faint"
    ]
    return f"{chart.title}, over {chart.x_label}: {'; '.join(lines)}"


def format_tick(value: float) -> str:
    """A short number: 20k, 1.5M, 0.25."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:g}"


def _finite(points: Iterable[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
