"""The arithmetic of rate and remaining time, with times that the tests choose."""

import pytest

from apdist_verbs.terminal.pace import Pace, duration, speed


def paced(*updates: tuple[int, float]) -> Pace:
    """A pace after updates of (done, seconds)."""
    pace = Pace()
    for done, now in updates:
        pace.add(done, now)
    return pace


def test_nothing_is_foretold_before_two_steps_were_seen() -> None:
    assert paced().left(240) == ""
    assert paced((1, 12.0)).left(240) == ""


def test_the_first_step_with_its_compilation_does_not_count() -> None:
    assert paced((1, 12.0), (2, 12.5), (3, 13.0)).left(103) == "2.0/s  50 s left"


def test_the_rate_is_that_of_the_recent_steps() -> None:
    slow = [(step, 10.0 * step) for step in range(1, 20)]
    fast = [(20 + step, 200.0 + step) for step in range(100)]
    assert paced(*slow, *fast).rate() == pytest.approx(1.0)


def test_an_evaluation_between_two_steps_changes_neither_rate_nor_remaining_time() -> None:
    pace = paced(*((step, step / 31) for step in range(1, 61)))
    assert pace.left(240) == "31/s  6 s left"
    pace.pause(60 / 31)
    assert pace.left(240) == "31/s  6 s left"  # not 0.9/s, as where the pause counts as work
    pace.resume(60 / 31 + 58)
    pace.add(61, 60 / 31 + 58 + 1 / 31)
    assert pace.rate() == pytest.approx(31)
    assert pace.left(240) == "31/s  6 s left"


def test_a_slow_evaluation_before_the_first_step_foretells_nothing() -> None:
    pace = Pace()
    pace.pause(0.0)  # an evaluation of a minute, then a first step that compiles for 27 seconds
    pace.resume(60.0)
    pace.pause(60.0)
    pace.add(1, 87.0)
    for step in range(2, 5):
        pace.add(step, 87.0 + step - 1)
    assert pace.left(300) == "1.0/s  5 min left"  # not 2657 s


def test_a_pause_that_the_next_step_ends_is_no_work() -> None:
    pace = paced((1, 0.0), (2, 1.0), (3, 2.0))
    pace.pause(2.0)
    pace.pause(30.0)  # another phase follows the first one
    pace.add(4, 60.0)
    pace.add(5, 61.0)
    assert pace.rate() == pytest.approx(4 / 3)


def test_what_comes_all_at_once_tells_no_rate() -> None:
    burst = paced((64, 5.0), (6094, 5.5))
    assert burst.left(20_000) == ""  # not 12060/s
    burst.add(6194, 15.0)
    assert burst.rate() == pytest.approx(613)


def test_what_was_done_before_a_start_is_no_rate() -> None:
    resumed = Pace()
    resumed.start(100)
    for step, now in ((101, 9.0), (102, 10.0)):
        resumed.add(step, now)
    assert resumed.rate() == pytest.approx(1.0)
    again = paced((1, 1.0), (2, 2.0), (1, 60.0), (1, 70.0))
    assert again.left(240) == ""  # started again after a failure


def test_a_start_forgets_a_pause_of_another_clock() -> None:
    pace = paced((1, 1000.0), (2, 1001.0))
    pace.pause(1002.0)
    pace.start(0)
    for step, now in ((1, 5.0), (2, 7.0)):
        pace.add(step, now)
    assert pace.rate() == pytest.approx(0.5)


def test_many_updates_in_no_time_keep_an_exact_rate() -> None:
    pace = paced(*((done, done / 4000) for done in range(8001)))
    assert pace.rate() == pytest.approx(4000)
    assert len(pace._seen) < 50


def test_the_end_has_nothing_left() -> None:
    assert paced((1, 1.0), (2, 2.0), (3, 3.0)).left(3) == "1.0/s"


def test_numbers_are_as_a_person_reads_them() -> None:
    assert [speed(rate) for rate in (0.04, 0.9, 1.04, 31.2)] == [
        *("25.0 s each", "1.1 s each", "1.0/s", "31/s")
    ]
    assert [duration(s) for s in (0.4, 119, 300, 7199, 12_240)] == [
        *("0 s", "119 s", "5 min", "120 min", "3.4 h")
    ]
