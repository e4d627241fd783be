"""What a person sees of the progress."""

import pytest

from apdist_verbs.terminal import console
from apdist_verbs.terminal.console import Pace, progress_bar


def paced(*updates: tuple[int, float]) -> Pace:
    """A pace after updates of (done, seconds)."""
    pace = Pace()
    for done, now in updates:
        pace.add(done, now)
    return pace


def test_nothing_is_foretold_before_two_steps_were_seen() -> None:
    assert paced((0, 0.0)).left(240) == ""
    assert paced((0, 0.0), (1, 12.0)).left(240) == ""


def test_the_first_step_with_its_compilation_does_not_count() -> None:
    assert paced((0, 0.0), (1, 12.0), (2, 12.5), (3, 13.0)).left(103) == "2.0/s  50 s left"


def test_the_rate_is_that_of_the_recent_steps() -> None:
    slow = [(step, 10.0 * step) for step in range(20)]
    fast = [(20 + step, 200.0 + step) for step in range(100)]
    assert paced(*slow, *fast).rate() == pytest.approx(1.0)


def test_what_was_done_before_a_start_is_no_rate() -> None:
    resumed = paced((100, 0.0), (101, 9.0), (102, 10.0))
    assert resumed.rate() == pytest.approx(1.0)
    again = paced((0, 0.0), (1, 1.0), (2, 2.0), (1, 60.0), (2, 70.0))
    assert again.left(240) == ""  # started again after a failure


def test_many_updates_in_no_time_keep_an_exact_rate() -> None:
    pace = paced(*((done, done / 4000) for done in range(8001)))
    assert pace.rate() == pytest.approx(4000)
    assert len(pace.seen) < 50


def test_without_a_terminal_progress_is_lines_and_the_last_one_has_nothing_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.0)
    with progress_bar("training", 3) as update:
        for done in range(4):
            update(done, "loss 1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["training 0/3  loss 1", "training 1/3  loss 1"]
    assert lines[2].endswith("s left")
    assert lines[3].startswith("training 3/3  loss 1")
    assert not lines[3].endswith("left")
