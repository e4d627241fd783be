"""Line charts: ticks, smoothing, thinning, and lines within the axes."""

from __future__ import annotations

import math

import pytest

from apdist.report.charts import Chart, Series, draw, nice_ticks, smooth, thin_out


@pytest.mark.parametrize(
    ("low", "high", "outside", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 240, False, [50, 100, 150, 200]),
        (0, 0.93, True, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 17, True, [-5, 0, 5, 10, 15, 20]),
        (2, 2, True, [1, 1.5, 2, 2.5, 3]),
        (0.06, 0.06, True, [0.02, 0.04, 0.06, 0.08, 0.1]),
        (0, 0, True, [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
    ],
)
def test_ticks_are_round_and_cover_what_they_should(
    low: float, high: float, outside: bool, expected: list[float]
) -> None:
    assert nice_ticks(low, high, outside=outside) == pytest.approx(expected)


def test_thinning_keeps_the_ends_and_the_mean_of_the_rest() -> None:
    points = [(float(x), float(x % 7)) for x in range(10_000)]
    thin = thin_out(points)
    assert len(thin) <= 300
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(3, abs=0.1)
    assert thin_out(points[:300]) == points[:300]


def test_smoothing_keeps_a_straight_line() -> None:
    line = [(float(x), 2.0 * x) for x in range(100)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])


def test_a_chart_of_fewer_than_two_places_is_left_out() -> None:
    series = Series(name="a", points=((1.0, 2.0), (math.inf, 1.0)), look="after")
    assert draw(Chart(title="t", note="", x_label="x", series=(series,))) is None


def test_a_line_is_drawn_within_the_axes_and_rises_upwards() -> None:
    series = Series(name="a", points=((0.0, 0.0), (10.0, 1.0)), look="after")
    drawing = draw(Chart(title="t", note="", x_label="x", series=(series,)))
    assert drawing is not None
    (left, bottom), (right, top) = (
        map(float, point.split(",")) for point in drawing.lines[0].path.split()
    )
    assert 0 < left < right < drawing.axes.width
    assert 0 < top < bottom < drawing.axes.height
