"""Curves of all trials, marked where they ended early."""

from __future__ import annotations

import math

from apdist.report.sweeps.settings import objectives_of
from apdist.report.sweeps.trial_curves import TrialCurves, trial_curves
from apdist.training.sweeps.records import SweepRecord
from tests.report.sweeps.records import sweep, trial


def drawn(record: SweepRecord) -> TrialCurves | None:
    return trial_curves(record, record.trials, objectives_of(record)[0])


def test_stops_and_failures_are_marked_where_the_curve_ends_with_the_reason() -> None:
    stopped = trial(1, values=(0.1, 0.2), state="stopped", reason="asha: rung 120")
    failed = trial(2, values=(0.3, math.nan), state="failed")
    found = drawn(sweep(trial(0, values=(0.1, 0.3, 0.5)), stopped, failed, trial(3, values=())))
    assert found
    assert [line.look for line in found.drawing.lines] == ["faint", "faint", "after"]
    assert [each.number for each in found.trials] == [2, 1, 0]
    marks = {stop.trial: stop for stop in found.stops}
    assert marks[1].words == "calm-otter-1: stopped after step 120, asha: rung 120"
    assert marks[2].words == "calm-otter-2: failed after step 60, no reason"
    line = dict(zip((2, 1, 0), found.drawing.lines, strict=True))[1]
    assert line.path.split()[-1] == f"{marks[1].x},{marks[1].y}"


def test_without_two_evaluations_there_is_no_chart() -> None:
    assert drawn(sweep()) is None
    assert drawn(sweep(trial(values=(0.5,)))) is None
