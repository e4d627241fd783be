"""Which events a run keeps, and their lines."""

from typing import Any

import pytest

from apdist.training.events import Evaluated, Noticed, Restarted, SetMeasured, StepDone
from apdist.training.run_folder.history import HistoryEvent, follows, from_lines, to_lines
from tests.training.test_events import OLD_LINES, SAMPLES

KEPT = [event for event in SAMPLES if isinstance(event, HistoryEvent)]


def test_what_is_kept_comes_back_from_its_lines() -> None:
    assert [event.kind for event in KEPT] == [
        *("step", "evaluation", "set", "similarities", "notice", "restart", "end")
    ]
    assert from_lines(to_lines(KEPT)) == KEPT


def test_the_lines_of_an_earlier_run_stay_as_they_were() -> None:
    text = "".join(f"{line}\n" for line in OLD_LINES)
    assert to_lines(from_lines(text)) == text


def test_a_line_that_was_cut_off_is_passed_over() -> None:
    assert from_lines(to_lines(KEPT) + '{"kind": "st') == KEPT


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "merged", "step": 1}', "expected an event of kind"),
        ('{"kind": "warning", "text": "slow"}', "the history has no event 'warning'"),
        ('{"kind": "step", "step": 1, "time_ms": 1, "entropy": 0.5}', "has no figure 'entropy'"),
        ("{step}", "Expecting property name"),
    ],
)
def test_a_line_of_something_else_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_lines(f"{OLD_LINES[0]}\n{line}\n")


def test_each_step_comes_once_and_in_order_and_of_the_others_one_a_step() -> None:
    def step(number: int) -> HistoryEvent:
        return StepDone(step=number, figures={})

    def evaluated(number: int) -> HistoryEvent:
        return Evaluated(step=number, split="test", figures={}, seconds=1)

    def restarted(happened_ms: int) -> HistoryEvent:
        return Restarted(
            step=2,
            cause="x",
            happened_ms=happened_ms,
            seconds_lost=1,
            restarts_left=1,
            num_workers=2,
            num_before=2,
        )

    history: list[HistoryEvent] = []
    come = [evaluated(0), evaluated(0), step(1), step(1), step(3), step(2), evaluated(1)]
    come += [evaluated(2), restarted(5), restarted(5), restarted(6), evaluated(2), step(3)]
    for event in come:
        if follows(history, event):
            history.append(event)
    expected = [evaluated(0), step(1), step(2), evaluated(2), restarted(5), restarted(6), step(3)]
    assert history == expected


def test_sets_come_once_a_step_each_and_again_with_other_images() -> None:
    def measured(name: str, data: str) -> HistoryEvent:
        about: Any = {"protocol": "labelled", "num_queries": 1, "figures": {}, "seconds": 1}
        return SetMeasured(step=2, name=name, data=data, **about)

    history: list[HistoryEvent] = []
    for event in [measured("a", "x"), measured("b", "x"), measured("a", "x"), measured("a", "y")]:
        if follows(history, event):
            history.append(event)
    assert history == [measured("a", "x"), measured("b", "x"), measured("a", "y")]


def test_what_differs_in_topic_split_or_kind_is_kept_beside_the_other() -> None:
    def noticed(topic: str) -> HistoryEvent:
        return Noticed(step=2, topic=topic, text="x")

    def evaluated(split: str) -> HistoryEvent:
        return Evaluated(step=2, split=split, figures={}, seconds=1)

    about: Any = {"protocol": "labelled", "num_queries": 1, "figures": {}, "seconds": 1}
    measured = SetMeasured(step=2, name="a", data="x", **about)
    different = [noticed("flat"), noticed("small"), evaluated("val"), measured, evaluated("test")]
    history: list[HistoryEvent] = []
    for event in [*different, *different]:
        if follows(history, event):
            history.append(event)
    assert history == different


def test_a_history_may_begin_at_any_step() -> None:
    assert follows([], StepDone(step=41, figures={}))
