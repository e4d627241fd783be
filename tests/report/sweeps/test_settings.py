"""Settings: their figures, their spread, their order; the Pareto front against its definition."""

from __future__ import annotations

import math
import random

import pytest

from apdist.report.sweeps.settings import (
    noise_of,
    objective,
    objectives_of,
    pareto,
    settings_of,
    value_at,
)
from tests.report.sweeps.records import sweep, trial


def test_a_trial_counts_with_its_saved_weights_or_with_what_was_measured_last() -> None:
    by_map = objective("map")
    assert by_map.of(trial(values=(0.6, 0.5))) == 0.5
    assert by_map.of(trial(values=(0.6, 0.5), chosen={"map": 0.6})) == 0.6
    assert by_map.of(trial(values=())) is None
    assert by_map.of(trial(values=(math.nan,))) is None
    assert objective("-model.dim").of(trial(params={"model.dim": 64})) == 64


def test_a_minus_before_a_figure_wants_it_small() -> None:
    first, second = objectives_of(sweep(objectives=["map", "-model.dim"]))
    assert (first.key, first.label, first.sign) == ("map", "mAP", 1)
    assert (second.key, second.label, second.sign) == ("model.dim", "model.dim", -1)


def test_repeats_have_a_mean_and_a_spread_and_one_that_was_stopped_does_not_flatter_them() -> None:
    three = [trial(n, values=(v,), setting=5, repeat=n) for n, v in enumerate((0.4, 0.5, 0.6))]
    stopped = trial(3, values=(0.9,), setting=6, state="stopped")
    half = [trial(4, values=(0.8,), setting=7), trial(5, values=(), setting=7, state="failed")]
    waiting = trial(6, values=(), setting=8, state="waiting")
    found = settings_of(sweep(*three, stopped, *half, waiting))
    assert [setting.number for setting in found] == [5, 6, 7, 8]
    assert found[0].mean == pytest.approx(0.5)
    assert found[0].spread == pytest.approx(0.1)
    assert found[2].values == (0.8,)
    assert found[2].spread is None
    assert math.isnan(found[3].mean)
    assert noise_of(found) == pytest.approx(0.1)
    assert noise_of(found[1:]) is None


def test_of_repeats_that_were_all_stopped_those_count_that_came_furthest() -> None:
    early = trial(0, values=(0.9,), setting=1, state="stopped")
    late = trial(1, values=(0.5, 0.6, 0.4), setting=1, repeat=1, state="stopped")
    (found,) = settings_of(sweep(early, late))
    assert found.values == (0.4,)


def test_of_a_figure_that_is_to_be_small_the_least_is_the_best() -> None:
    found = settings_of(sweep(trial(0), trial(1, values=(0.1,)), objectives=["-map"]))
    assert [setting.number for setting in found] == [1, 0]


def test_the_value_at_a_step_is_the_last_one_until_then() -> None:
    measured = trial(values=(0.1, 0.2, 0.3))
    assert [value_at(measured, "map", step) for step in (59, 60, 179, 180)] == [None, 0.1, 0.2, 0.3]


def test_the_front_is_what_no_other_setting_beats() -> None:
    generator = random.Random(3)
    points = [(generator.randint(0, 9) / 10, generator.randint(0, 9) * 32) for _ in range(30)]
    trials = [
        trial(number, values=(value,), params={"model.dim": dim})
        for number, (value, dim) in enumerate(points)
    ]
    stopped = trial(30, values=(0.99,), params={"model.dim": 1}, state="stopped")
    record = sweep(*trials, stopped, objectives=["map", "-model.dim"])
    found = {
        each.setting.number: each.on_front
        for each in pareto(settings_of(record), objectives_of(record))
    }
    slow = {
        number: not any(
            other[0] >= point[0] and other[1] <= point[1] and other != point for other in points
        )
        for number, point in enumerate(points)
    }
    assert found == slow
    assert 0 < sum(slow.values()) < 30
