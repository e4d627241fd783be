"""What a person sees of a sweep, on a terminal and in a log file."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from apdist_verbs.terminal import sweep_screen
from apdist_verbs.terminal.sweep_screen import SweepScreen
from tests.pipelines.terminal.test_progress import Clock
from tests.report.sweeps.records import trial


def screen(clock: Clock | None = None, total: int = 4) -> SweepScreen:
    return SweepScreen(total, steps=120, clock=clock or Clock())


def drawn(shown: SweepScreen, width: int = 120, height: int = 20) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return [line.rstrip() for line in captured.get().splitlines()]


def one_of_each(shown: SweepScreen, clock: Clock) -> None:
    """A trial that finished, one that was stopped, one that failed, one that runs."""
    fates = [
        trial(0),
        trial(1, values=(0.2,), state="stopped", reason="asha: rung 60"),
        trial(2, values=(), state="failed", reason="out of memory"),
        trial(3, values=(0.3,), state="running"),
    ]
    for record in fates:
        shown.trial_started(replace(record, curve=[], state="running"))
        for step, figures in record.curve:
            for at in range(step - 59, step + 1):
                clock.now += 0.5
                shown.trial_stepped(record.number, at, {"images_per_s": 800.0})
            shown.trial_evaluated(record, step, figures)
        if record.state != "running":
            shown.trial_ended(record)


def test_a_log_file_gets_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    one_of_each(screen(clock), clock)
    shown = capsys.readouterr()
    params = "training.learning_rate 0.01, loss.kind ap"
    best = "best so far: mAP"
    assert shown.out.splitlines() == [
        f"calm-otter-0 (1 of 4) started: {params}",
        f"calm-otter-0 step 60/120: mAP 0.2500, 800 images/s; {best} 0.2500 of calm-otter-0",
        f"calm-otter-0 step 120/120: mAP 0.5000, 800 images/s; {best} 0.5000 of calm-otter-0",
        "calm-otter-0 finished after step 120 in 90 s, mAP 0.5000",
        f"calm-otter-1 (2 of 4) started: {params}",
        f"calm-otter-1 step 60/120: mAP 0.2000, 800 images/s; {best} 0.5000 of calm-otter-0",
        "calm-otter-1 stopped after step 60 in 90 s, mAP 0.2000: asha: rung 60",
        f"calm-otter-2 (3 of 4) started: {params}",
        f"calm-otter-3 (4 of 4) started: {params}",
        f"calm-otter-3 step 60/120: mAP 0.3000, 800 images/s; {best} 0.5000 of calm-otter-0",
    ]
    assert shown.err.splitlines() == [
        "warning: calm-otter-2 failed after step 0: out of memory",
    ]


def test_a_terminal_gets_a_table_with_those_that_run_first_then_the_best() -> None:
    clock = Clock()
    shown = screen(clock)
    one_of_each(shown, clock)
    head, *rows, line = drawn(shown)
    assert head.split() == ["trial", "state", "step", "mAP", "images/s", "left", "parameters"]
    assert [row.split()[:4] for row in rows] == [
        ["calm-otter-3", "running", "60/120", "0.3000"],
        ["calm-otter-0", "finished", "120/120", "0.5000"],
        ["calm-otter-1", "stopped", "60/120", "0.2000"],
        ["calm-otter-2", "failed", "0/120", "-"],
    ]
    assert "800  30 s  training.learning_rate 0.01, loss.kind ap" in rows[0]
    assert "3/4" in line
    assert "best so far: mAP 0.5000 of calm-otter-0" in line


def test_events_are_not_lines_where_the_table_is_redrawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_screen, "is_redrawn", lambda: True)
    clock = Clock()
    one_of_each(screen(clock), clock)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "out of memory" in shown.err


@pytest.mark.parametrize("width", [30, 45, 60, 80, 200])
def test_columns_give_way_from_the_right_and_no_line_is_longer_than_the_terminal(
    width: int,
) -> None:
    clock = Clock()
    shown = screen(clock)
    one_of_each(shown, clock)
    lines = drawn(shown, width)
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("calm-otter-3")
    assert ("0.3000" in lines[1]) == (width >= 45)
    assert ("learning_rate" in lines[1]) == (width >= 80)


def test_a_low_terminal_shows_what_matters_and_counts_the_rest() -> None:
    shown = screen(total=30)
    for number in range(20):
        shown.trial_ended(trial(number, values=(number / 20,)))
    lines = drawn(shown, height=10)
    assert len(lines) == 8
    assert lines[1].startswith("calm-otter-19")
    assert lines[-2].strip() == "and 15 more"


def test_the_time_left_counts_those_that_wait_as_those_that_are_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    shown = screen(clock, total=4)
    shown.trial_started(trial(0, values=()))
    for step in range(1, 61):
        clock.now += 0.5
        shown.trial_stepped(0, step, {})
    # 60 steps of its own and three times 120, two a second.
    assert "3 min left" in shown.line(120) or "4 min left" in shown.line(120)
    shown.trial_ended(trial(0, values=(0.1,), state="stopped"))
    # Now three times 60.
    assert "90 s left" in shown.line(120)
    for number in range(1, 4):
        shown.trial_started(trial(number, values=()))
        clock.now += 30
        shown.trial_stepped(number, 60, {})
        shown.trial_ended(trial(number, values=(0.1,), state="stopped"))
    # The best are measured once more, for nobody knows how long.
    assert "left" not in shown.line(120)


def test_a_sweep_that_goes_on_knows_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    shown = screen()
    shown.resumed([trial(0), trial(1, values=(0.2,), state="waiting"), trial(2, values=())])
    shown.trial_started(trial(1, values=(0.2,), state="running"))
    assert capsys.readouterr().out.splitlines() == [
        "going on with 2 finished; best so far: mAP 0.5000 of calm-otter-0",
        "calm-otter-1 (2 of 4) goes on from step 60: training.learning_rate 0.01, loss.kind ap",
    ]
    assert "2/4" in shown.line(80)


def test_of_a_figure_that_is_to_be_small_the_least_is_best() -> None:
    shown = SweepScreen(2, steps=120, objectives=["-map"], clock=Clock())
    shown.trial_ended(trial(0))
    shown.trial_ended(trial(1, values=(0.1,)))
    assert shown.best() == ("calm-otter-1", 0.1)
