"""Axes: where values lie on them, and what is written beside."""

from __future__ import annotations

import pytest

from apdist.report.sweeps.axes import Axis, axes_of, figure_axis, tick_words
from tests.report.sweeps.records import forty, sweep, trial


def axis(name: str) -> Axis:
    return next(axis for axis in axes_of(forty()) if axis.name == name)


def test_a_log_axis_has_equal_factors_at_equal_distances() -> None:
    rate = axis("training.learning_rate")
    assert rate.kind == "log"
    assert [rate.place(value) for value in (1e-4, 1e-3, 1e-2, 1e-1)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 1]
    )
    assert rate.place(0) is None
    assert [text for _, text in rate.ticks()] == ["0.0001", "0.001", "0.01", "0.1"]
    assert (rate.section, rate.short) == ("training.", "learning_rate")


def test_few_numbers_and_categories_lie_in_the_middle_of_equal_cells() -> None:
    assert axis("model.dim").kind == "ordered"
    assert [axis("model.dim").place(value) for value in (64, 128.0, 256, 65)] == [
        pytest.approx(1 / 6),
        pytest.approx(1 / 2),
        pytest.approx(5 / 6),
        None,
    ]
    kind = axis("loss.kind")
    assert kind.kind == "categories"
    assert [kind.place(value) for value in ("ap", "triplet", "other")] == [0.25, 0.75, None]


def test_a_parameter_that_some_trials_lack_is_conditional() -> None:
    assert [axis.name for axis in axes_of(forty()) if axis.is_conditional] == ["loss.margin"]


def test_lists_switches_and_texts_are_categories_and_one_is_not_true() -> None:
    values = [[], ["a.*"], True, 1, "1", None]
    trials = [trial(number, params={"x": value}) for number, value in enumerate(values)]
    (found,) = axes_of(sweep(*trials, space=[]))
    assert found.kind == "categories"
    assert len({found.place(value) for value in values}) == len(values)
    assert tick_words([]) == "none"
    assert len(tick_words("long " * 40)) == 24
    assert [tick_words(value) for value in (1e30, 20_000, 0.12345)] == ["1e+30", "20k", "0.123"]


def test_values_beyond_the_space_and_a_single_one_have_an_axis() -> None:
    space = [{"name": "x", "kind": "uniform", "low": 0.0, "high": 1.0}]
    (found,) = axes_of(sweep(trial(params={"x": 3.0}), space=space))
    assert (found.low, found.high) == (0, 3)
    (alone,) = axes_of(sweep(trial(params={"x": 2}), space=[]))
    assert alone.place(2) == 0.5
    assert figure_axis("mAP", [0.5]).place(0.5) == pytest.approx(0.5)
    assert axes_of(sweep(space=space)) == [
        Axis(name="x", kind="linear", low=0.0, high=1.0, is_conditional=False)
    ]


def test_a_log_axis_of_less_than_a_decade_still_has_ticks() -> None:
    narrow = Axis(name="x", kind="log", low=0.02, high=0.07)
    assert len(narrow.ticks()) >= 3
    assert all(0.02 <= value <= 0.07 for value, _ in narrow.ticks())
