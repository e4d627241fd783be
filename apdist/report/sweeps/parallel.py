"""Parallel coordinates: an upright axis for each parameter, a line for each setting.

Places are shares of the drawing's width and height, from the left and from the top: it is as wide
as the screen is, and its texts keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apdist.report.sweeps.axes import Axis, figure_axis
from apdist.report.sweeps.plots import about, look_of
from apdist.report.sweeps.settings import Objective, Setting

MOST = 400
"""Lines: the best settings."""
LANE = 0.95
"""Where a setting runs that lacks the parameter."""
ABOVE_LANE = 0.86
SIZE = 1000
"""Of the lines' own coordinates, in both directions."""


@dataclass(frozen=True, kw_only=True)
class Upright:
    """An axis in its place."""

    axis: Axis
    x: float
    ticks: tuple[tuple[float, str], ...]
    has_lane: bool
    is_figure: bool


@dataclass(frozen=True, kw_only=True)
class Course:
    """The line of a setting."""

    trial: int
    look: str
    strength: float
    """1 for the best, 0 for the worst."""
    places: tuple[float, ...]
    """Where the line crosses each axis."""
    path: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """The drawing, as its template wants it."""

    uprights: tuple[Upright, ...]
    courses: tuple[Course, ...]
    """The best last: on top."""
    num_left_out: int


def parallel(
    settings: Sequence[Setting], axes: Sequence[Axis], objective: Objective, best: int
) -> Parallel | None:
    """The drawing of ``settings``, best first; None where none was measured."""
    measured = [setting for setting in settings if setting.values]
    drawn = measured[:MOST]
    if not drawn or not axes:
        return None
    figure = figure_axis(objective.label, [setting.mean for setting in drawn])
    columns = [*axes, figure]
    xs = [(column + 0.5) / len(columns) for column in range(len(columns))]
    courses = []
    for place, setting in enumerate(drawn):
        tops = [_top(axis, setting.params.get(axis.name)) for axis in axes]
        tops.append(_top(figure, setting.mean))
        courses.append(
            Course(
                trial=setting.trials[0].number,
                look=look_of(setting, best),
                strength=round(1 - place / len(drawn), 3),
                places=tuple(tops),
                path=" ".join(
                    f"{SIZE * x:.0f},{SIZE * top:.0f}" for x, top in zip(xs, tops, strict=True)
                ),
                words=about(setting, objective),
            )
        )
    return Parallel(
        uprights=tuple(
            Upright(
                axis=axis,
                x=x,
                ticks=tuple((_top(axis, value), text) for value, text in axis.ticks()),
                has_lane=axis.is_conditional,
                is_figure=axis is figure,
            )
            for axis, x in zip(columns, xs, strict=True)
        ),
        courses=tuple(reversed(courses)),
        num_left_out=len(measured) - len(drawn),
    )


def _top(axis: Axis, value: Any) -> float:
    """The place from the top; an axis that some settings lack ends above their lane."""
    place = axis.place(value)
    if place is None:
        return LANE
    return round((1 - place) * (ABOVE_LANE if axis.is_conditional else 1.0), 4)
