"""Parallel coordinates: every setting passes each axis at its value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apdist.report.sweeps import parallel as drawing
from apdist.report.sweeps.axes import axes_of
from apdist.report.sweeps.parallel import ABOVE_LANE, LANE, Parallel, parallel
from apdist.report.sweeps.settings import objectives_of, settings_of
from apdist.training.sweeps.records import SweepRecord
from tests.report.sweeps.records import forty, sweep, trial


def drawn(record: SweepRecord) -> Parallel | None:
    return parallel(settings_of(record), axes_of(record), objectives_of(record)[0], 0)


def test_lines_pass_axes_at_their_values_and_run_below_those_that_they_lack() -> None:
    low = trial(0, values=(0.2,), params={"training.learning_rate": 1e-4, "loss.kind": "ap"})
    margin = {"training.learning_rate": 0.1, "loss.kind": "triplet", "loss.margin": 1.0}
    high = trial(1, values=(0.6,), params=margin)
    record = sweep(low, high)
    axes = [axis for axis in axes_of(record) if axis.name in margin]
    found = parallel(settings_of(record), axes, objectives_of(record)[0], 0)
    assert found
    assert [upright.axis.short for upright in found.uprights] == [
        *("learning_rate", "kind", "margin"),
        "mAP",
    ]
    worst, best = found.courses
    assert worst.places == (1.0, 0.75, LANE, 1.0)
    assert best.places == (0.0, 0.25, 0.0, 0.0)
    assert best.path.split()[0] == "125,0"
    assert (worst.look, best.look) == ("best", "finished")
    assert best.strength > worst.strength
    assert [upright.has_lane for upright in found.uprights] == [False, False, True, False]
    assert max(top for top, _ in found.uprights[2].ticks) == ABOVE_LANE


def test_without_a_figure_there_is_no_drawing_and_unmeasured_settings_have_no_line() -> None:
    assert drawn(sweep()) is None
    assert drawn(sweep(trial(values=()))) is None
    found = drawn(sweep(trial(0), trial(1, values=())))
    assert found
    assert [course.trial for course in found.courses] == [0]


def test_of_many_settings_the_best_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST", 10)
    found = drawn(forty())
    assert found
    assert (len(found.courses), found.num_left_out) == (10, 29)
    assert all(course.look in ("best", "finished") for course in found.courses)
    record = forty()
    assert drawn(replace(record, trials=record.trials[:5]))
