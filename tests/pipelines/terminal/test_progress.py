"""What a person sees of the progress, in terminals of any width and in log files."""

import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from apdist_verbs.terminal import progress as shown
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.progress import LogLines, Progress, fitted, phase, progress_bar


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def training(clock: Clock, steps: int = 60) -> Progress:
    """A training of 240 steps, two a second, after ``steps``."""
    progress = Progress("training", 240, clock)
    for step in range(1, steps + 1):
        clock.now += 0.5
        progress(step, "loss 0.5000  binned mAP 0.512  900 images/s")
    return progress


NOTE = "loss 0.5000  binned mAP 0.512  900 images/s"


def test_the_count_is_the_last_to_be_cut(clock: Clock) -> None:
    progress = training(clock)
    bar = "━" * 6 + "╌" * 18
    assert progress.line(120, "━╌") == f"training  {bar}  60/240  2.0/s  90 s left  0:30  {NOTE}"
    assert progress.line(120) == f"training  60/240  2.0/s  90 s left  0:30  {NOTE}"
    assert progress.line(80, "━╌") == f"training  60/240  2.0/s  90 s left  0:30  {NOTE[:29]}"
    assert progress.line(40) == "training  60/240  2.0/s  90 s left  0:30"
    assert progress.line(20) == "training  60/240"
    assert progress.line(10) == "60/240"
    assert progress.line(4) == "60/2"


def test_a_phase_is_told_by_its_name_with_its_time_in_place_of_the_rate(clock: Clock) -> None:
    progress = training(clock)
    progress.phase("evaluating step 60")
    clock.now += 42
    assert progress.line(80).split("  ") == [
        *("training", "60/240", "evaluating step 60", "42 s", "1:12", "loss 0.5000"),
        "binned mAP 0.512",
    ]
    assert progress.line(40) == "training  60/240  evaluating step 60"
    assert progress.line(30) == "60/240  evaluating step 60"
    progress.phase("")
    assert progress.line(40) == "training  60/240  2.0/s  90 s left  1:12"[:40]


def test_a_phase_alone_has_no_count(clock: Clock) -> None:
    progress = Progress("loading weights", clock=clock)
    assert progress.line(80) == "loading weights"
    clock.now = 3.2
    assert progress.line(80) == "loading weights  3 s"


def test_steps_are_timed_by_whoever_does_them(clock: Clock) -> None:
    progress = Progress("training", 240, clock)
    for step in range(1, 121):  # all arrive at once
        progress(step, at=1000 + step / 31)
    assert "31/s  4 s left" in progress.line(80)


def test_what_fits_is_chosen_by_rank_and_shown_in_order() -> None:
    assert fitted([(2, "a"), (0, "bb"), (1, ""), (1, "cc")], 6) == "bb  cc"
    assert fitted([(2, "a"), (0, "bb"), (1, "cc")], 9) == "a  bb  cc"


def lines_of(progress: Progress, clock: Clock, seconds: float) -> list[str]:
    """What a log file gets in that time, looked at as often as the thread does."""
    lines = LogLines(progress)
    written = []
    for _ in range(round(seconds / shown.LOOK_EVERY_S)):
        clock.now += shown.LOOK_EVERY_S
        written.append(lines.due())
    return [line for line in [*written, lines.last()] if line]


def test_two_minutes_without_a_step_are_a_line_every_few_seconds(clock: Clock) -> None:
    progress = Progress("training", 30, clock)
    progress.phase("starting Ray")
    lines = lines_of(progress, clock, 120)
    assert 20 <= len(lines) <= 30
    assert all("0/30  starting Ray" in line for line in lines[:-1])
    assert "starting Ray  1 s" in lines[0]
    assert "116 s" in lines[-2]


def test_a_log_file_gets_no_line_of_what_takes_no_time(clock: Clock) -> None:
    assert lines_of(Progress("loading weights", clock=clock), clock, 0.75) == []
    slow = lines_of(Progress("loading weights", clock=clock), clock, 6)
    assert slow == ["loading weights  5 s"]


def test_the_last_line_says_how_far_it_came_once(clock: Clock) -> None:
    progress = Progress("writing images", 8, clock)
    progress(8)
    lines = LogLines(progress)
    assert "8/8" in lines.last()
    assert lines.last() == ""


def test_thousands_of_updates_are_one_line_and_the_thread_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("writing images", 4000) as update:
        for done in range(4001):
            update(done)
    (line,) = capsys.readouterr().out.splitlines()
    assert "4000/4000" in line
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_phase_inside_a_bar_is_shown_by_the_bar() -> None:
    with progress_bar("training", 3) as bar:
        with phase("loading weights"):
            assert bar.phase_name == "loading weights"
        assert bar.phase_name == ""


SHOW = """
import time
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal import progress
progress.PATIENCE_S = progress.LOOK_EVERY_S = 0.1
with progress.progress_bar("training", 240) as bar:
    bar(7, "loss 0.5000")
    say("a line of its own")
    warn("another one")
    bar.phase("evaluating step 7")
    time.sleep(0.5)
"""


def on_a_terminal(width: int, **environment: str) -> str:
    """What a terminal of that width is sent."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment, "COLUMNS": str(width)},
    )
    os.close(theirs)
    sent = b""
    try:
        while chunk := os.read(ours, 4096):
            sent += chunk
    except OSError:  # the end of a terminal whose other side is closed
        pass
    os.close(ours)
    assert process.wait(30) == 0
    return sent.decode()


def test_a_terminal_is_redrawn_and_never_wider_than_it_is() -> None:
    sent = on_a_terminal(40)
    assert "training  7/240  evaluating step 7" in sent
    assert "a line of its own\r\n" in sent
    assert "evaluating" not in sent.partition("warning: another one")[0].rpartition("\n")[2]
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent)
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 40


def test_a_dumb_terminal_gets_lines_without_control_characters() -> None:
    sent = on_a_terminal(80, TERM="dumb")
    assert "\x1b" not in sent
    assert "7/240  evaluating step 7" in sent
    assert "a line of its own" in sent


def test_a_terminal_without_colours_gets_none() -> None:
    assert "\x1b[3" not in on_a_terminal(80, NO_COLOR="1")


def test_what_is_said_beside_a_bar_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", 3):
        say("step 0: mAP 0.5")
    assert capsys.readouterr().out == "step 0: mAP 0.5\n"
