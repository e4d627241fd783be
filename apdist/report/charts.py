"""Line charts: from values to pixels; `templates/chart.html` draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
    """CSS class: "after", "before", "second" to "fifth", or "faint" (drawn, not in the legend)."""


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


@dataclass(frozen=True)
class Axes:
    """Maps data to the drawing."""

    x_range: Point
    y_range: Point
    width: int = 380
    """About that of a phone: text keeps its size there and grows a little on a wide screen."""
    height: int = 236
    left: int = 46
    right: int = 364
    top: int = 12
    bottom: int = 196

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Pixels from the top; values beyond the axis are drawn at its end."""
        low, high = self.y_range
        inside = min(max(value, low), high)
        return round(self.bottom - (inside - low) / (high - low) * (self.bottom - self.top), 1)


class Dot(NamedTuple):
    """A value that is marked on its line."""

    x: float
    y: float
    words: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series in pixels."""

    name: str
    look: str
    path: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart in pixels, as its template wants it."""

    chart: Chart
    axes: Axes
    x_ticks: list[tuple[float, str]]
    """Place and text."""
    y_ticks: list[tuple[float, str]]
    """Place and text."""
    lines: list[Line]
    """The last on top."""
    in_words: str
    """For those who do not see it."""

    @property
    def named(self) -> list[Line]:
        """The lines that the legend names."""
        return [line for line in self.lines if line.look != "faint"]


def draw(chart: Chart) -> Drawing | None:
    """``chart`` in pixels; None where fewer than two points can be drawn."""
    drawn = [(line, points) for line in chart.series if (points := thin_out(_finite(line.points)))]
    points = [point for _, line in drawn for point in line]
    if len({x for x, _ in points}) < 2:
        return None
    x_range = (min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = _y_ticks(chart, points)
    axes = Axes(x_range, (y_ticks[0], y_ticks[-1]))
    return Drawing(
        chart=chart,
        axes=axes,
        x_ticks=[(axes.x(v), format_tick(v)) for v in nice_ticks(*x_range, outside=False)],
        y_ticks=[(axes.y(value), format_tick(value)) for value in y_ticks],
        lines=[_line(axes, line, its_points) for line, its_points in drawn],
        in_words=_in_words(chart, drawn),
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
        around = abs(low) / 2 or 0.5
        low, high = low - around, high + around
    exact = (high - low) / count
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= exact * 0.999)
    first = math.floor(low / step + 1e-9) if outside else math.ceil(low / step - 1e-9)
    last = math.ceil(high / step - 1e-9) if outside else math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def _y_ticks(chart: Chart, points: Sequence[Point]) -> list[float]:
    if chart.y_from_zero_to_one:
        return [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    values = [y for _, y in points]
    # A line from near zero looks steeper than it is unless zero is on the axis.
    low = min(0.0, min(values)) if min(values) < max(values) / 2 else min(values)
    return nice_ticks(low, max(values), outside=True)


def _line(axes: Axes, line: Series, points: Sequence[Point]) -> Line:
    is_marked = len(points) <= _MOST_MARKERS and line.look != "faint"
    return Line(
        name=line.name,
        look=line.look,
        path=" ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in points),
        dots=tuple(
            Dot(axes.x(x), axes.y(y), f"{line.name}: {y:.4g} at {x:g}")
            for x, y in (points if is_marked else ())
        ),
    )


def _in_words(chart: Chart, drawn: Sequence[tuple[Series, Sequence[Point]]]) -> str:
    lines = [
        f"{line.name} from {points[0][1]:.3g} at {points[0][0]:g} to {points[-1][1]:.3g} "
        f"at {points[-1][0]:g}"
        for line, points in drawn
        if line.look != "faint"
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
