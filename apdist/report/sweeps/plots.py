"""Points over an axis: slices, settings by two figures, repeats of settings; in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import NamedTuple

from apdist.report.charts import Axes, format_tick, nice_ticks
from apdist.report.sweeps.axes import Axis, cut, figure_axis, words
from apdist.report.sweeps.settings import Compared, Objective, Setting

MOST = 300
"""Settings in a plot: the best ones."""
MOST_REPEATED = 15
LONGEST_PARAMS = 600
LETTER = 6.8
"""Width of a letter, in pixels."""
BAR = 9
"""Half of the width of a mean."""


class Spot(NamedTuple):
    """A point."""

    x: float
    y: float
    look: str
    """CSS class: best, finished, stopped, failed, running, waiting; front, beaten."""
    words: str
    trial: int
    """By which the page links it with others."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plane with points, as its template wants it."""

    title: str
    note: str
    x_label: str
    axes: Axes
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    spots: list[Spot]
    """The best on top."""
    path: str = ""
    """A line through some of them."""
    bars: tuple[tuple[float, float, float], ...] = ()
    """x from, x to and y of short lines: means."""

    @property
    def in_words(self) -> str:
        """For those who do not see it."""
        return f"{self.title}: {len(self.spots)} points over {self.x_label or 'the settings'}"


def slices(
    settings: Sequence[Setting], axes: Sequence[Axis], objective: Objective, best: int
) -> list[Plot]:
    """A plot for each of ``axes``: the figure of settings over it; those that lack it are left out.

    Args:
        settings: best first.
        axes: in the order of display.
        objective: what is drawn upwards.
        best: number of the best setting.
    """
    measured = [setting for setting in settings if setting.values][:MOST]
    if len(measured) < 2:
        return []
    plane, y_ticks = _plane([setting.mean for setting in measured])  # of all, to be compared
    plots = []
    for axis in axes:
        placed = [
            (place, setting)
            for setting in measured
            if axis.name in setting.params
            and (place := axis.place(setting.params[axis.name])) is not None
        ]
        if not placed:
            continue
        lacking = len(measured) - len(placed)
        plots.append(
            Plot(
                title=axis.name,
                note=_how_drawn(axis) + (f"; {lacking} settings do not have it" if lacking else ""),
                x_label="",
                axes=plane,
                x_ticks=_along(plane, axis),
                y_ticks=y_ticks,
                spots=[
                    Spot(
                        plane.x(place),
                        plane.y(setting.mean),
                        look_of(setting, best),
                        f"{_headline(setting, objective)}; {words(setting.params[axis.name])}",
                        setting.trials[0].number,
                    )
                    for place, setting in reversed(placed)
                ],
            )
        )
    return plots


def front_plot(compared: Sequence[Compared], objectives: Sequence[Objective], best: int) -> Plot:
    """Settings by two figures, with a line through those that none beats in both."""
    first, second = objectives[:2]
    compared = compared[:MOST]
    across = figure_axis(second.label, [each.values[1] for each in compared])
    plane, y_ticks = _plane([each.values[0] for each in compared])
    spots = [
        Spot(
            plane.x(across.place(each.values[1]) or 0.0),
            plane.y(each.values[0]),
            ("best" if each.setting.number == best else "front") if each.on_front else "beaten",
            f"{each.setting.trials[0].name}: {first.label} {each.values[0]:.4f}, "
            f"{second.label} {each.values[1]:.4g}",
            each.setting.trials[0].number,
        )
        for each in compared
    ]
    line = sorted((s.x, s.y) for s in spots if s.look != "beaten")
    # Between two of them one has what the one that is no worse in the second figure has.
    corners = [
        (here[0], there[1]) if second.sign > 0 else (there[0], here[1])
        for here, there in pairwise(line)
    ]
    line = [point for pair in zip_longest(line, corners) for point in pair if point]
    return Plot(
        title=f"{first.label} against {second.label}",
        note="Filled: no other setting is as good in both and better in one.",
        x_label=second.label,
        axes=plane,
        x_ticks=_along(plane, across),
        y_ticks=y_ticks,
        spots=spots,
        path=" ".join(f"{x},{y}" for x, y in line) if len(line) > 1 else "",
    )


def repeats_plot(settings: Sequence[Setting], best: int) -> Plot | None:
    """Each repeat of the best settings that have several; None where there is none."""
    repeated = [setting for setting in settings if setting.spread is not None][:MOST_REPEATED]
    if not repeated:
        return None
    plane, y_ticks = _plane([value for setting in repeated for value in setting.values])
    middles = [plane.x((place + 0.5) / len(repeated)) for place in range(len(repeated))]
    return Plot(
        title="Repeats",
        note="Each repeat of a setting is a point, their mean a line; the best one is first.",
        x_label="setting, by its place",
        axes=plane,
        x_ticks=[(x, str(place)) for place, x in enumerate(middles, start=1)],
        y_ticks=y_ticks,
        spots=[
            Spot(
                x,
                plane.y(value),
                "best" if setting.number == best else "finished",
                f"{setting.trials[0].name}: {value:.4f}",
                setting.trials[0].number,
            )
            for x, setting in zip(middles, repeated, strict=True)
            for value in setting.values
        ],
        bars=tuple(
            (x - BAR, x + BAR, plane.y(setting.mean))
            for x, setting in zip(middles, repeated, strict=True)
        ),
    )


def look_of(setting: Setting, best: int) -> str:
    """The CSS class of a setting: it finished where one of its repeats did."""
    states = [trial.state for trial in setting.trials]
    return "best" if setting.number == best else "finished" if "finished" in states else states[0]


def about(setting: Setting, objective: Objective) -> str:
    """A setting in a line: its name, its figure, what became of it, its parameters."""
    params = ", ".join(f"{name} {words(value)}" for name, value in setting.params.items())
    return f"{_headline(setting, objective)}; {cut(params, LONGEST_PARAMS)}"


def _headline(setting: Setting, objective: Objective) -> str:
    spread = f" ± {setting.spread:.4f}" if setting.spread is not None else ""
    state = setting.trials[0].state
    ended = "" if state == "finished" else f", {state} at step {setting.reached}"
    figure = f"{objective.label} {setting.mean:.4f}{spread}" if setting.values else "not measured"
    return f"{setting.trials[0].name}: {figure}{ended}"


def _plane(values: Sequence[float]) -> tuple[Axes, list[tuple[float, str]]]:
    """Axes with x from 0 to 1 and a little room at both ends, and the ticks upwards."""
    marks = nice_ticks(min(values), max(values), outside=True)
    plane = Axes((-0.04, 1.04), (marks[0], marks[-1]))
    return plane, [(plane.y(mark), format_tick(mark)) for mark in marks]


def _along(plane: Axes, axis: Axis) -> list[tuple[float, str]]:
    ticks = axis.ticks()
    room = max(4, int((plane.right - plane.left) / max(len(ticks), 1) / LETTER))
    return _not_too_close(
        [
            (
                plane.x(axis.place(value) or 0.0),
                cut(text, room),
            )
            for value, text in ticks
        ]
    )


def _how_drawn(axis: Axis) -> str:
    kinds = {
        "linear": "linear axis",
        "log": "logarithmic axis",
        "ordered": "the values that were tried",
        "categories": "categories",
    }
    return kinds[axis.kind]


def _not_too_close(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those of ``ticks`` whose texts do not overlap, from the left."""
    kept: list[tuple[float, str]] = []
    end = -math.inf
    for x, text in sorted(ticks):
        half = LETTER / 2 * len(text)
        if x - half >= end:
            kept.append((x, text))
            end = x + half
    return kept
