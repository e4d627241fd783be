"""Workers that end so that others go on: how many then, and how often."""

import pickle

import pytest

from apdist.training.events import WorkersFailed
from apdist.training.regrouping import (
    HOUR_MS,
    PATIENCE_S,
    Regrouped,
    RestartBudget,
    WorkerCount,
    within_an_hour,
)


def failure(time_ms: int, ranks: tuple[int, ...] = (1,), is_planned: bool = False) -> WorkersFailed:
    return WorkersFailed(
        ranks=list(ranks), cause="it stopped", time_ms=time_ms, is_planned=is_planned
    )


def test_a_budget_is_one_of_any_hour_and_not_of_a_life() -> None:
    budget = RestartBudget(2)
    times = [0, HOUR_MS // 2, HOUR_MS - 1, HOUR_MS * 2 - 2]
    assert [budget.spend(time_ms) for time_ms in times] == [True, True, False, True]
    assert not RestartBudget(0).spend(0)


def test_ten_failures_spread_over_a_day_end_nothing() -> None:
    budget = RestartBudget(1)
    assert all(budget.spend(hour * HOUR_MS) for hour in range(10))


def test_a_notice_and_a_stop_by_a_person_are_no_failures() -> None:
    counted = failure(5)
    others = [failure(3, is_planned=True), failure(4, ranks=()), failure(5 - HOUR_MS), failure(6)]
    assert within_an_hour([*others, counted], until_ms=5) == [counted]


def test_less_room_than_could_be_used_is_believed_after_a_while() -> None:
    size = WorkerCount(2, 4)
    assert size.to_start(5, now_s=10.0) == 4
    assert size.to_start(3, now_s=20.0) is None
    assert size.to_start(3, now_s=20.0 + PATIENCE_S) == 3
    assert size.to_start(3, now_s=30.0) is None  # the next time anew
    assert size.to_start(1, now_s=99.0) is None  # too few: waited for without end
    assert size.to_start(2, now_s=99.1) == 2


@pytest.mark.parametrize(
    ("rooms", "told"),
    [([3, 3], [2, 3]), ([3, 2, 3], [2, 2, 2]), ([9, 9], [2, 4]), ([0, 0], [2, 2])],
    ids=["more", "more for a moment", "more than wanted", "less"],
)
def test_room_is_told_when_it_is_seen_twice(rooms: list[int], told: list[int]) -> None:
    size = WorkerCount(1, 4)
    assert [size.to_grow(room, there=2) for room in rooms] == told


def test_why_workers_end_outlives_the_way_to_the_controller() -> None:
    sent = pickle.loads(pickle.dumps(Regrouped("a notice", (0, 2))))
    assert (sent.cause, sent.ranks) == ("a notice", (0, 2))
