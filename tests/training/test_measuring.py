"""Which weights a training measures, keeps and saves; loops in this process and on two workers."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import Catalogue
from apdist.training.events import Ended, Evaluated, Event, SetMeasured, StepDone
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox
from apdist.training.measuring import Measuring
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.kept_weights import FOLDER
from apdist.training.run_folder.pages import read_pages
from apdist.training.run_folder.runs import Run, create_run, whole_history
from apdist.training.worker import train
from tests.pipelines.measure.scenes import write_scenes
from tests.training.test_sets import write_divided
from tests.workers import on_workers

CPU = torch.device("cpu")
HELD_OUT = {"loss.kind": "triplet", "data.holdout_share": 0.5, "training.batch_size": 16}
"""Of eight classes; the loss compiles nothing."""
WORSE = HELD_OUT | {
    "training.optimizer": "sgd",
    "training.schedule": "constant",
    "training.learning_rate": 10.0,
}
"""A step so large that nothing is left of what the network could do."""


class Dies(Mailbox[Event]):
    """Fails where a step is told."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.last = step

    def post(self, event: Event) -> None:
        super().post(event)
        if isinstance(event, StepDone) and event.step == self.last:
            raise RuntimeError("died")


def begun(config: Config, changes: dict[str, Any], name: str = "a") -> Run:
    return create_run(override(config, changes | {"run.name": name}), "test")


def gone_on(run: Run, link: Mailbox[Event] | None = None) -> list[Any]:
    """The history to the end, each event without its time."""
    train(Job(run.config, run.uri), link or Mailbox[Event](), CPU)
    return [dataclasses.replace(event, time_ms=0) for event in whole_history(run.uri)]


def measured(history: list[Any]) -> list[tuple[str, int]]:
    return [(e.split, e.step) for e in history if isinstance(e, Evaluated)]


def weights(run: Run) -> dict[str, Tensor]:
    return load_file(Path(run.uri, "model.safetensors"))


def test_the_best_weights_are_saved_and_the_test_split_is_read_at_both_ends_only(
    small_config: Config,
) -> None:
    run = begun(small_config, WORSE)
    history = gone_on(run)
    expected = [("holdout", 0), ("test", 0), ("holdout", 3), ("holdout", 6), ("test", 6)]
    assert measured(history) == expected
    of_test = [e.figures for e in history if isinstance(e, Evaluated) and e.split == "test"]
    assert of_test[0] == of_test[1]  # the start was best, and is what the end measures
    of_step = [e.of_step for e in history if isinstance(e, Evaluated)]
    assert of_step == [-1, -1, -1, -1, 0]  # the last one measures other weights than those of then
    held_out = [e for e in history if isinstance(e, Evaluated) and e.split == "holdout"]
    assert held_out[0].figures["map"] > held_out[-1].figures["map"]
    (end,) = (e for e in history if isinstance(e, Ended))
    assert end.weights.startswith("after step 0: best mAP (")
    (kept,) = Path(run.uri, FOLDER).iterdir()
    assert kept.stem == held_out[0].weights
    saved, best = weights(run), load_file(kept)
    assert all(torch.equal(saved[name], best[name]) for name in saved)


def test_weights_that_held_out_images_cannot_tell_from_the_best_are_the_last(
    small_config: Config,
) -> None:
    changes = {"training.learning_rate": 1e-12, "training.optimizer": "sgd"}
    run = begun(small_config, HELD_OUT | changes)
    history = gone_on(run)
    (end,) = (e for e in history if isinstance(e, Ended))
    assert end.weights.startswith("after step 6: mAP ")
    assert end.weights.endswith(" after step 0)")
    assert [e.of_step for e in history if isinstance(e, Evaluated)] == [-1] * 5


def test_without_held_out_images_the_last_weights_are_saved(small_config: Config) -> None:
    run = begun(small_config, WORSE | {"data.holdout_share": "auto"})  # of too few classes
    history = gone_on(run)
    assert measured(history) == [("test", 0), ("test", 3), ("test", 6)]
    (end,) = (e for e in history if isinstance(e, Ended))
    assert end.weights == "the last, after step 6"
    assert not Path(run.uri, FOLDER).exists()
    found = newest_sound(run.uri)
    assert found is not None
    state = torch.load(Path(found.uri, f"state-{found.marker.state_sha256}.pt"), weights_only=True)
    assert torch.equal(weights(run)["linear.weight"], state["model"]["linear.weight"])


def test_patience_ends_a_run_which_is_then_complete(small_config: Config) -> None:
    changes = WORSE | {"training.patience": 2, "training.steps": 60, "evaluation.every_steps": 1}
    run = begun(small_config, changes | {"checkpoint.every_steps": 50})
    history = gone_on(run)
    end = history[-1]
    assert isinstance(end, Ended)
    assert end.is_early
    held_out = [e for e in history if isinstance(e, Evaluated) and e.split == "holdout"]
    best = max(held_out, key=lambda e: e.figures["map"])
    assert end.step == best.step + 2  # evaluations without a better one
    again = Run(run.uri, run.config, "test", history=whole_history(run.uri))
    assert again.is_complete
    found = newest_sound(run.uri)
    assert found is not None
    assert found.marker.step == end.step


def test_a_run_that_dies_between_two_checkpoints_ends_as_if_it_had_not(
    small_config: Config,
) -> None:
    changes = HELD_OUT | {"training.ema": 0.8, "training.blend": [0.5, 1.0]}
    whole = begun(small_config, changes, "whole")
    expected = gone_on(whole)
    run = begun(small_config, changes, "died")
    with pytest.raises(RuntimeError, match="died"):
        gone_on(run, Dies(4))  # after an evaluation at 3, which is behind the checkpoint at 2
    found = newest_sound(run.uri, with_state=False)
    assert found is not None
    kept = [e.step for e in read_pages(run.uri, found.marker.history) if isinstance(e, StepDone)]
    assert kept == [1, 2]
    history = gone_on(run)
    assert measured(history) == measured(expected)
    assert [e.step for e in history if isinstance(e, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [e.weights for e in history if isinstance(e, Evaluated)] == [
        e.weights for e in expected if isinstance(e, Evaluated)
    ]
    first, second = weights(run), weights(whole)
    assert all(torch.equal(first[name], second[name]) for name in first)


def saved_by_two(config: Config) -> dict[str, Any]:
    """What a run's model file has, and what was measured, on worker 0."""
    run = Run(f"{config.run.output}/two", config, "test")
    return {"history": gone_on(run)}


def test_workers_with_sharded_parameters_choose_and_measure_as_one_alone(
    small_config: Config, tmp_path: Path
) -> None:
    write_scenes(tmp_path / "scenes")
    write_divided(str(tmp_path / "divided"))
    sets = {"small": f"{small_config.data.shards}:test"}
    sets |= {name: str(tmp_path / name) for name in ("scenes", "divided")}
    changes = HELD_OUT | {"training.ema": 0.8, "training.blend": [0.5, 1.0]}
    changes |= {"training.steps": 3, "evaluation.sets_every_steps": 2}
    changes |= {"evaluation.sets": [f"{name}={shards}" for name, shards in sets.items()]}
    alone = begun(small_config, changes, "one")
    expected = gone_on(alone)
    sharded = {"training.parameters": "sharded", "ray.num_workers": 2}
    together = begun(small_config, changes | sharded, "two")
    history = on_workers(2, saved_by_two, together.config)[0]["history"]
    assert measured(history) == measured(expected)
    of_sets = [(e.name, e.step) for e in history if isinstance(e, SetMeasured)]
    assert of_sets == [(name, step) for step in (0, 2, 3) for name in sets]
    for one, two in zip(expected, history, strict=True):
        if isinstance(one, Evaluated | SetMeasured):
            assert one.blend == two.blend
            assert one.figures == pytest.approx(two.figures, abs=1e-6)
    first, second = weights(alone), weights(together)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)


def test_more_ways_than_one_are_measured_while_images_are_read_once(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apdist.training import evaluation

    read: list[int] = []
    describe = evaluation.describe_images

    def counted(network: Any, catalogue: Catalogue, **options: Any) -> Any:
        read.append(len(catalogue))
        return describe(network, catalogue, **options)

    monkeypatch.setattr(evaluation, "describe_images", counted)
    shown: list[int] = []
    measure = Measuring._scores_on

    def noted(self: Measuring, *arguments: Any) -> Any:
        found = measure(self, *arguments)
        shown.append(len(found))
        return found

    monkeypatch.setattr(Measuring, "_scores_on", noted)
    gone_on(begun(small_config, HELD_OUT | {"training.blend": [0.0, 0.5, 1.0]}))
    assert shown == [1, 3, 3]  # at the start all are one
    assert len(read) == 5  # with the test split before and after
