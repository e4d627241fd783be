"""First against last on sets beside a run's own images."""

from typing import Any

import pytest

from apdist.report.set_changes import set_changes


def row(step: int, name: str = "a", data: str = "x", of_step: int = -1, **figures: float) -> Any:
    about = {"name": name, "protocol": "labelled", "data": data, "num_queries": 9, "seconds": 1.0}
    return about | {"step": step, "of_step": of_step} | figures


def test_the_last_is_compared_with_the_first_and_a_fall_is_one() -> None:
    found = set_changes(
        [
            row(0, map=0.5, recall_at_1=0.25),
            row(0, "b", map=0.125),
            row(5, map=0.9, recall_at_1=0.9),
            row(9, map=0.375, recall_at_1=0.75, of_step=7),
        ]
    )
    assert [c.name for c in found] == [*["a (labelled, 9 queries)"] * 2, "b (labelled, 9 queries)"]
    assert [c.figure for c in found] == ["mAP", "R@1", "mAP"]
    assert [c.change for c in found] == [-0.125, 0.5, None]
    assert [c.has_fallen for c in found] == [True, False, False]
    assert [c.is_main for c in found] == [True, False, True]
    assert [c.when for c in found] == ["step 0 to 7", "step 0 to 7", "step 0"]


def test_figures_of_other_images_under_the_same_name_are_not_compared() -> None:
    (change,) = set_changes([row(0, data="old", map=0.9), row(2, map=0.5), row(9, map=0.75)])
    assert (change.first, change.last) == (0.5, 0.75)


def test_weights_of_the_start_that_were_chosen_have_changed_nothing() -> None:
    (change,) = set_changes([row(0, map=0.5), row(9, map=0.5, of_step=0)])
    assert (change.when, change.change) == ("step 0", 0.0)


def test_of_parts_each_has_its_main_figure() -> None:
    keys = ["easy/map_trapezoid", "easy/precision_at_1", "hard/map_trapezoid"]
    found = set_changes([row(0, **dict.fromkeys(keys, 0.5))])
    assert [c.figure for c in found if c.is_main] == [
        "mAP (trapezoid), easy",
        "mAP (trapezoid), hard",
    ]
    assert found[1].change == pytest.approx(None)
