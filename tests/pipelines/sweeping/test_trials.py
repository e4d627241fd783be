"""A trial's run, and the events that it sends."""

from typing import Any

import pytest

from apdist.config import Config
from apdist.training.events import FromTrial, StepDone
from apdist.training.run_folder.runs import RUN_NAME, create_run, open_run
from apdist_verbs.sweeping.trials import TrialLink, opened_run, trial_config


def test_a_trial_leaves_out_options_that_its_loss_does_not_have(small_config: Config) -> None:
    margin = {"loss.margin": 0.2, "loss.num_bins": 9}
    triplet = trial_config(small_config, "a", "t1", {"loss.kind": "triplet", **margin}, 3)
    listwise = trial_config(small_config, "a", "t2", {"loss.kind": "ap", **margin}, 0).loss
    assert (triplet.loss.margin, triplet.loss.num_bins) == (0.2, small_config.loss.num_bins)
    assert (listwise.margin, listwise.num_bins) == ("auto", 9)
    assert (triplet.run.output, triplet.run.name, triplet.training.seed) == ("a", "t1", 3)


def test_a_trial_goes_on_with_the_run_that_it_has(small_config: Config, tmp_path: Any) -> None:
    config = trial_config(small_config, str(tmp_path / "mine"), "t1", {}, 0)
    run, resumed = opened_run(config, "glyphs")
    assert resumed is None
    run.record(StepDone(step=3, figures={}, time_ms=17))
    again, resumed = opened_run(config, "glyphs")
    assert again.steps_done == 3
    assert resumed is not None
    assert (resumed.cause, resumed.time_ms) == ("resumed", 17)


def test_a_trial_that_was_killed_as_it_made_its_folder_has_one(
    small_config: Config, tmp_path: Any
) -> None:
    config = trial_config(small_config, str(tmp_path / "mine"), "t1", {}, 0)
    create_run(config, "glyphs")
    (tmp_path / "mine" / "t1" / RUN_NAME).unlink()
    run, _ = opened_run(config, "glyphs")
    assert open_run(run.uri).preset == "glyphs"


class Sent:
    """In place of the mailbox's actor."""

    def __init__(self) -> None:
        self.events: list[FromTrial] = []
        self.post = self
        self.remote = self.events.append


def test_what_is_no_event_is_refused_before_it_is_sent() -> None:
    link = TrialLink(Sent(), "t1")
    with pytest.raises(TypeError, match="expected an event"):
        link.post({"kind": "step"})  # type: ignore[arg-type]


def test_a_trial_tells_what_its_workers_will_occupy_before_they_are_there() -> None:
    sent = Sent()
    link = TrialLink(sent, "t1")
    link.occupied("group")
    link.post(StepDone(step=1, figures={}))
    assert [(told.trial, told.placement_group) for told in sent.events] == [
        *(("t1", "group"), ("t1", None))
    ]
