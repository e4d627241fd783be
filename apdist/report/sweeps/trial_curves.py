"""The curves of all trials on one chart, each marked where it was stopped or failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apdist.report.charts import Chart, Drawing, Series, draw
from apdist.report.sweeps.axes import cut
from apdist.report.sweeps.settings import Objective
from apdist.training.sweeps.records import SweepRecord, TrialRecord

MOST = 200
"""Curves that are drawn: the best ones, and of the others those of the first trials."""


@dataclass(frozen=True)
class Stop:
    """Where a curve ends early."""

    x: float
    y: float
    state: str
    words: str
    trial: int


@dataclass(frozen=True)
class TrialCurves:
    """The chart, and what is marked on it."""

    drawing: Drawing
    trials: tuple[TrialRecord, ...]
    """The trials whose curves are drawn, in the order of the lines."""
    stops: tuple[Stop, ...]
    num_left_out: int


def trial_curves(
    record: SweepRecord, ranked: Sequence[TrialRecord], objective: Objective
) -> TrialCurves | None:
    """The curves of ``ranked`` trials, best first; None where none has two evaluations."""
    measured = [trial for trial in ranked if _points(trial, objective)]
    drawn = measured[:MOST][::-1]
    series = tuple(
        Series(
            name=trial.name,
            points=_points(trial, objective),
            look="after" if trial.number == record.best else "faint",
        )
        for trial in drawn
    )
    chart = Chart(
        title=f"{objective.label} of all trials",
        note="The best one is the strong line. ✕ stopped, ▲ failed; the list says why.",
        x_label="step",
        series=series,
        y_from_zero_to_one=False,
    )
    drawing = draw(chart)
    if drawing is None:
        return None
    stops = []
    for trial in drawn:
        if trial.state in ("stopped", "failed"):
            step, value = _points(trial, objective)[-1]
            reason = cut(trial.reason, 200) or "no reason"
            words = f"{trial.name}: {trial.state} after step {step:g}, {reason}"
            x, y = drawing.axes.x(step), drawing.axes.y(value)
            stops.append(Stop(x, y, trial.state, words, trial.number))
    return TrialCurves(drawing, tuple(drawn), tuple(stops), len(measured) - len(drawn))


def _points(trial: TrialRecord, objective: Objective) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(step), value)
        for step, figures in trial.curve
        if math.isfinite(value := figures.get(objective.key, math.nan))
    )
