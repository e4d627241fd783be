"""Models of trials, measured once on what their trainings did not look at."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from apdist.config import Config, override
from apdist.training.events import Evaluated, Event, PhaseBegan, SetMeasured
from apdist.training.finalists import Finalists, measure_finalists
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.runs import Run, create_run, evaluation_name, open_run
from apdist.training.worker import train
from tests.training.test_measuring import HELD_OUT, WORSE
from tests.workers import on_workers

CPU = torch.device("cpu")


def trained(config: Config, name: str, *, is_trial: bool) -> Run:
    """A run to its end, as its driver keeps it."""
    run, box = create_run(override(config, {"run.name": name}), "test"), Mailbox[Event]()
    train(Job(run.config, run.uri, is_trial=is_trial), box, CPU)
    for event in box.take():
        run.record(event)
    return open_run(run.uri)


def found(*runs: Run) -> list[Event]:
    """What is told of these runs, worker by worker."""
    box = Mailbox[Event]()
    job = Finalists(runs[0].config, runs[0].config.run.output, tuple((r.uri, box) for r in runs))
    measure_finalists(job, box, CPU)
    return box.take()


def timeless(events: Any) -> list[Any]:
    """The events without what a clock says."""
    kept = [e for e in events if isinstance(e, Evaluated | SetMeasured)]
    return [dataclasses.replace(e, time_ms=0, seconds=0.0) for e in kept]


@pytest.mark.parametrize("changes", [HELD_OUT, WORSE], ids=["the last weights", "the first"])
def test_a_trial_does_not_look_at_the_test_split_and_is_measured_there_as_a_training_is(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    from apdist.training import measuring

    sets = [f"small={small_config.data.shards}:test"]
    config = override(small_config, changes | {"evaluation.sets": sets})
    usual = trained(config, "usual", is_trial=False)
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "evaluation_images", None)
        trial = trained(config, "trial", is_trial=True)
    assert trial.is_complete
    of_trial, of_usual = timeless(trial.history), timeless(usual.history)
    assert of_trial == [e for e in of_usual if getattr(e, "split", "") == "holdout"]
    assert Path(trial.uri, "model.safetensors").read_bytes() == (
        Path(usual.uri, "model.safetensors").read_bytes()
    )
    told = found(trial)
    assert timeless(told) == [
        e for e in of_usual if e.step == 6 and getattr(e, "split", "test") == "test"
    ]
    assert Path(trial.uri, evaluation_name("test", 6)).read_bytes() == (
        Path(usual.uri, evaluation_name("test", 6)).read_bytes()
    )
    assert PhaseBegan(name="evaluating test", time_ms=0) in [
        dataclasses.replace(e, time_ms=0) for e in told if isinstance(e, PhaseBegan)
    ]


def test_what_is_measured_after_the_end_belongs_to_the_history_of_a_run_that_is_complete(
    small_config: Config,
) -> None:
    run = trained(override(small_config, HELD_OUT), "trial", is_trial=True)
    before = len(run.history)
    (event,) = (e for e in found(run) if isinstance(e, Evaluated))
    assert event.time_ms
    assert run.record(event)
    assert not run.record(event)  # once
    again = open_run(run.uri)
    assert len(again.history) == before + 1
    assert again.is_complete


def test_without_held_out_images_a_trial_is_watched_by_the_test_split(
    small_config: Config,
) -> None:
    few = HELD_OUT | {"data.holdout_share": "auto"}  # of too few classes
    trial = trained(override(small_config, few), "trial", is_trial=True)
    steps = [(e.split, e.step) for e in trial.of_kind(Evaluated)]
    assert steps == [("test", 0), ("test", 3), ("test", 6)]


def test_two_workers_measure_several_models_as_one_does(small_config: Config) -> None:
    config = override(small_config, HELD_OUT)
    runs = [
        trained(override(config, {"training.seed": seed}), f"of {seed}", is_trial=True)
        for seed in (0, 1)
    ]
    expected = timeless(found(*runs))
    assert len(expected) == 2
    first, second = on_workers(2, found, *runs)
    assert timeless(second) == []
    for one, two in zip(expected, timeless(first), strict=True):
        assert one.figures == pytest.approx(two.figures, abs=1e-6)
