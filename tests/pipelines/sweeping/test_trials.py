"""What a sweep does with the events of its trials."""

from types import SimpleNamespace
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
    TrialStarted,
    Warned,
)
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import SWEEP, create_run, open_run
from apdist.training.tracking.following import Follower
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.start.trials import Board, TrialLink, trial_config
from apdist_verbs.terminal.progress import Progress


def test_a_trial_leaves_out_options_that_its_loss_does_not_have(small_config: Config) -> None:
    margin = {"loss.margin": 0.2, "loss.num_bins": 9}
    triplet = trial_config(small_config, "a", "t1", {"loss.kind": "triplet", **margin}).loss
    listwise = trial_config(small_config, "a", "t2", {"loss.kind": "ap", **margin}).loss
    assert (triplet.margin, triplet.num_bins) == (0.2, small_config.loss.num_bins)
    assert (listwise.margin, listwise.num_bins) == ("auto", 9)


def test_a_trial_has_a_run_of_its_own_and_shows_evaluations_and_failures(
    small_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create_run(small_config, SWEEP + "glyphs")
    board = Board(
        run, Tracker(small_config.tracking, "a"), small_config, "glyphs", Progress("trials", 1)
    )
    params = {"training.learning_rate": 0.25}
    told = [
        TrialStarted(params=params),
        StepDone(step=1, figures={"loss": 0.5, "images_per_s": 9.0}),
        Noticed(step=1, topic="flat", text="the loss has not moved"),
        Evaluated(
            step=1,
            split="test",
            figures={"map": 0.5, "recall_at_1": 0.5, "r_precision": 0},
            seconds=1.0,
        ),
        Warned(text="slow"),
        Failed(text="no such file"),
    ]
    # The trial's own process has made its folder.
    create_run(trial_config(small_config, run.uri, "t1", params), "glyphs")
    for event in told:
        board.on_event(FromTrial(trial="t1", event=event))
    assert "0/1  trial t1: step 1" in board.progress.line(80)
    board.close("FINISHED")
    trial = open_run(f"{run.uri}/t1")
    assert trial.config.training.learning_rate == 0.25
    assert trial.history == told[1:4]
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "trial t1: training.learning_rate 0.25",
        "trial t1: step 1: test mAP 0.5000, R@1 0.5000, R-precision 0.0000",
    ]
    assert shown.err.splitlines() == [
        "warning: trial t1: step 1: the loss has not moved",
        "warning: slow",
        "warning: trial t1: no such file",
    ]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (Ended(step=1, model_id="m", weights="the last", time_ms=1), "FINISHED"),
        (Failed(text="no such file"), "FAILED"),
        (StepDone(step=1, figures={}), "KILLED"),
    ],
)
def test_a_trial_that_somebody_goes_on_with_is_left_to_him(
    small_config: Config, event: Event, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Follower, "close", lambda self, status: closed.append(status))
    run = create_run(small_config, SWEEP + "glyphs")
    board = Board(
        run, Tracker(small_config.tracking, "a"), small_config, "glyphs", Progress("trials", 2)
    )
    for trial in ("t1", "t2"):
        create_run(trial_config(small_config, run.uri, trial, {}), "glyphs")
        with held(f"{run.uri}/{trial}", print):
            for told in (TrialStarted(params={}), event):
                board.on_event(FromTrial(trial=trial, event=told))
    with held(f"{run.uri}/t2", print):  # train --resume
        board.close("FINISHED")
    assert closed == [status]


def test_what_is_no_event_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util

    monkeypatch.setattr(ray.util, "get_current_placement_group", lambda: None)
    link: Any = TrialLink(actor=None, trial="t1")
    with pytest.raises(TypeError, match="expected an event"):
        link.post({"kind": "step"})


def test_tune_can_pickle_the_callback_and_the_ended_trials_are_counted(
    small_config: Config,
) -> None:
    from ray import cloudpickle

    run = create_run(small_config, SWEEP + "glyphs")
    tracker = Tracker(small_config.tracking, "a")
    board = Board(run, tracker, small_config, "glyphs", Progress("trials", 2))
    callback = board.releaser()
    cloudpickle.dumps(callback)
    for name in ("t1", "t1", "t2"):  # by an error, and as ended
        callback.on_trial_complete(0, [], SimpleNamespace(trial_id=name))
    board.show(FromTrial(trial="t2", event=Warned(text="slow")))
    assert board.progress.line(80).startswith("trials  2/2")
