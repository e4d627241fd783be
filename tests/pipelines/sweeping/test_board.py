"""What a sweep does with the events of its trials."""

from pathlib import Path
from typing import Any

import pytest

from apdist.config import Config
from apdist.training.events import (
    Ended,
    Evaluated,
    Event,
    Failed,
    FromTrial,
    Noticed,
    StepDone,
    TrialEnded,
    TrialStarted,
    Warned,
)
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import SWEEP, create_run, open_run
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.driving import Driver
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.state import SweepState, read_state
from apdist.training.tracking.following import Follower
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.sweeping.board import LOST, Board
from apdist_verbs.sweeping.trials import trial_config
from apdist_verbs.terminal.sweep_screen import SweepScreen
from tests.training.sweeps.plans import plan_of

RATE = Dimension("training.learning_rate", "choice", values=(0.25, 0.5))
END = Ended(step=6, model_id="m", weights="the last", time_ms=1)


def fits(config: Config) -> None:
    if config.training.learning_rate > 0.4:
        raise ValueError("too large")


@pytest.fixture
def board(small_config: Config) -> Board:
    run = create_run(small_config, SWEEP + "glyphs")
    plan = plan_of(2, scheduler="asha", repeats=2)
    driver = Driver(plan, [RATE], small_config, SweepState(run.uri), fits)
    return Board(run, Tracker(small_config.tracking, "a"), driver, "test", SweepScreen(3, steps=6))


def begin(board: Board) -> TrialRecord:
    """The next trial, whose process has made its run."""
    record = board.driver.next()
    assert record is not None
    name, params, seed = record.name, record.params, record.seed
    create_run(trial_config(board.run.config, board.run.uri, name, params, seed), "glyphs")
    tell(board, record, TrialStarted(params=record.params, lease=1))
    return record


def tell(board: Board, record: TrialRecord, *events: Event) -> None:
    for event in events:
        board.on_event(FromTrial(trial=record.name, event=event))


def evaluated(step: int, value: float) -> Evaluated:
    figures = {"map": value, "recall_at_1": 0.5, "r_precision": 0.0}
    return Evaluated(step=step, split="test", figures=figures, seconds=1.0, time_ms=step)


def step(number: int) -> StepDone:
    return StepDone(step=number, figures={"loss": 0.5, "images_per_s": 9.0}, time_ms=number)


def test_a_resume_asks_again_what_each_evaluation_had_come_to(board: Board) -> None:
    record = begin(board)
    fast = StepDone(step=2, figures={"loss": 0.5, "images_per_s": 27.0}, time_ms=2)
    tell(board, record, evaluated(0, 0.25), step(1), evaluated(1, 0.5), fast, evaluated(2, 0.5))
    trial = board.trials[record.name]
    rates = [trial.figures(e).get("images_per_s") for e in trial.evaluations("test")]
    assert rates == [None, 9.0, 18.0]
    board.close("FINISHED")


def test_a_trial_has_a_run_of_its_own_and_shows_evaluations_and_failures(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    record = begin(board)
    kept = [
        step(1),
        Noticed(step=1, topic="flat", text="the loss has not moved"),
        evaluated(1, 0.5),
    ]
    tell(board, record, *kept, Warned(text="slow"))
    name = record.name
    tell(board, record, END, TrialEnded(attempt="x", failure=""))
    board.close("FINISHED")
    trial = open_run(f"{board.run.uri}/{name}")
    assert trial.config.training.learning_rate == 0.25
    assert trial.history == [*kept, END]
    assert trial.info["ended"] == "FINISHED"
    [found, other] = read_state(board.run.uri).records
    assert (found.state, other.state) == ("finished", "waiting")
    assert found.curve == [(1, {**kept[2].figures, "images_per_s": 9.0})]  # type: ignore[union-attr]
    assert found.chosen["map"] == 0.5
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"{name} (1 of 3) started: training.learning_rate 0.25",
        f"{name} step 1/6: mAP 0.5000, 9 images/s; best so far: mAP 0.5000 of {name}",
        f"{name} finished after step 1 in 0 s, mAP 0.5000",
    ]
    assert shown.err.splitlines() == [
        f"warning: {name}: step 1: the loss has not moved",
        "warning: slow",
    ]


def test_a_failed_trial_is_tried_again_with_its_run_and_then_has_failed(board: Board) -> None:
    record = begin(board)
    tell(board, record, Failed(text="no such file"), TrialEnded(attempt="x", failure="Error"))
    assert board.driver.records[0].state == "waiting"
    again = board.driver.next()
    assert again is not None
    assert again.name == record.name
    tell(board, again, TrialStarted(params={}, lease=2))
    board.lost(again.name, "x")  # Tune is late to say that the first attempt is over
    assert board.driver.records[0].state == "running"
    board.lost(again.name, "y")  # by a SIGKILL: it said nothing
    board.close("FINISHED")
    assert board.driver.records[0].state == "failed"
    assert board.driver.records[0].reason == LOST
    assert board.driver.records[1].state == "stopped"
    assert open_run(f"{board.run.uri}/{record.name}").info["ended"] == "FAILED"


def test_a_trial_that_falls_behind_is_asked_to_stop_and_has_no_end(board: Board) -> None:
    asked: list[str] = []
    board.stop = asked.append
    board.driver.plan = board.driver.plan.__class__(
        **{**vars(board.driver.plan), "repeats": 1, "searcher": "random"}
    )
    board.driver.check = lambda _: None
    first, second = begin(board), begin(board)
    tell(board, first, evaluated(3, 0.9))
    tell(board, second, evaluated(3, 0.1))
    assert asked == [second.name]
    tell(board, second, TrialEnded(attempt="y", failure=""))
    board.close("FINISHED")
    assert board.driver.records[1].state == "stopped"
    assert open_run(f"{board.run.uri}/{second.name}").info["ended"] == "KILLED"


def test_a_person_who_stops_a_sweep_finds_its_trials_waiting(board: Board) -> None:
    record = begin(board)
    tell(board, record, step(1))
    board.is_interrupted = True
    tell(board, record, TrialEnded(attempt="x", failure=""))
    board.close("KILLED")
    found = read_state(board.run.uri).records[0]
    assert (found.state, found.reason, found.attempts) == ("waiting", "", 0)
    assert open_run(f"{board.run.uri}/{record.name}").info["ended"] == "KILLED"


def test_what_a_trial_was_measured_at_before_is_known_when_it_goes_on(board: Board) -> None:
    record = begin(board)
    tell(board, record, step(1), evaluated(1, 0.5))
    driver = Driver(board.driver.plan, [RATE], board.run.config, SweepState(board.run.uri), fits)
    later = Board(board.run, board.parent, driver, "test", SweepScreen(3, steps=6))
    again = driver.next()
    assert again is not None
    tell(later, again, TrialStarted(params={}, lease=2))
    assert [(at, found["map"]) for at, found in driver.records[0].curve] == [(1, 0.5)]


def test_a_trial_that_cannot_be_is_told_of_once(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in (begin(board), begin(board)):
        tell(board, record, END, TrialEnded(attempt=record.name, failure=""))
    assert board.driver.next() is None
    board.track_unfit()
    board.track_unfit()
    name = board.driver.records[2].name
    assert capsys.readouterr().err == f"warning: {name} failed after step 0: too large\n"


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (END, "FINISHED"),
        (step(1), "KILLED"),
    ],
)
def test_a_trial_that_somebody_goes_on_with_is_left_to_him(
    board: Board, event: Event, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Follower, "close", lambda self, status: closed.append(status))
    records = [begin(board), begin(board)]
    for record in records:
        with held(f"{board.run.uri}/{record.name}", print):
            tell(board, record, event)
    with held(f"{board.run.uri}/{records[1].name}", print):  # train --resume
        for record in records:
            tell(board, record, TrialEnded(attempt=record.name, failure=""))
        board.close("FINISHED")
    assert closed == [status]


def test_mlflow_hears_the_end_of_a_trial_that_ended_while_nobody_was_there(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apdist_verbs.sweeping import board as module

    record = begin(board)
    tell(board, record, END)
    board.driver.finished(record.name, 1.0, {})
    settled: list[Any] = []
    monkeypatch.setattr(module, "is_unsettled", lambda run: True)
    monkeypatch.setattr(module, "settle", settled.append)
    board.settle()
    board.trials.clear()
    board.close("FINISHED")
    assert [(Path(run.uri).name, run.info["ended"]) for run in settled] == [
        (record.name, "FINISHED")
    ]
