"""The loop of a worker, in this process."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.training import stepping
from apdist.training.cluster.ends import Interrupted
from apdist.training.events import (
    CheckpointWritten,
    Ended,
    Evaluated,
    Event,
    Noticed,
    PhaseBegan,
    Restarted,
    Similarities,
    Started,
    StepDone,
    WorkersFailed,
)
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox
from apdist.training.regrouping import Regrouped
from apdist.training.run_folder.runs import create_run, whole_history
from apdist.training.worker import train
from tests.late_device import LateCopies, travelling
from tests.pictures import write_small_set
from tests.trainings import CPU, StopAfter, gone_on, losses, of_kind, trained, weights
from tests.workers import on_workers

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")
BF16 = torch.bfloat16
# Weights and losses of a training.
Whole = tuple[dict[str, Tensor], list[float]]


@pytest.fixture(scope="module")
def kept() -> list[Whole]:
    """What `whole` found, for all tests of this file."""
    return []


@pytest.fixture
def whole(small_config: Config, kept: list[Whole]) -> Whole:
    """Weights and losses of the training of ``small_config``, undisturbed."""
    if not kept:
        run, events = trained(small_config, "whole")
        kept.append((weights(run), losses(events)))
    return kept[0]


def test_what_is_no_step_is_told_by_its_name(small_config: Config) -> None:
    _, events = trained(override(small_config, {"loss.kind": "triplet"}), "a")
    told = [event.name for event in events if isinstance(event, PhaseBegan)]
    begun = ["loading weights", "reading the catalogue", "measuring memory"]
    saved, end = ["writing the checkpoint", ""], ["saving the model", "writing the checkpoint"]
    assert told == [
        *begun,
        *("looking for a checkpoint", "evaluating step 0", "", "first step"),
        *saved,
        *("evaluating step 3", ""),
        *saved,
        *saved,
        *("evaluating step 6", ""),
        *end,
    ]
    kinds = [type(event) for event in events]
    assert kinds.index(PhaseBegan) < kinds.index(Started)
    assert all(event.time_ms for event in events if isinstance(event, PhaseBegan))


def test_a_run_that_goes_on_after_its_workers_failed_tells_so_once(small_config: Config) -> None:
    changes = {"loss.kind": "triplet", "data.eval_split": ""}
    run, _ = trained(override(small_config, changes), "a", StopAfter(2))
    link, failed = Mailbox[Event](), WorkersFailed(ranks=[1], cause="gone", time_ms=5, hosts=["a"])
    job = Job(run.config, run.uri, resumed=failed)
    train(job, link, CPU)
    (event,) = of_kind(link.take(), Restarted)
    assert (event.step, event.cause) == (3, "worker 1 on a: gone")
    train(job, link, CPU)
    assert of_kind(link.take(), Restarted) == []


def test_a_training_that_gets_worse_is_noticed_and_the_history_keeps_it(
    small_config: Config,
) -> None:
    # A step so large that nothing is left of what the network could do.
    changes = {"training.optimizer": "sgd", "training.schedule": "constant"}
    changes |= {"loss.kind": "triplet", "training.learning_rate": 10.0}
    run, events = trained(override(small_config, changes), "a")
    found = [event.topic for event in of_kind(events, Noticed)]
    assert "worse" in found
    assert [event.topic for event in whole_history(run.uri) if isinstance(event, Noticed)] == found


def test_a_small_batch_is_noticed_once_also_after_a_restart(small_config: Config) -> None:
    changes = {"training.batch_size": 8, "training.chunk_size": 8, "training.steps": 4}
    config = override(small_config, changes | {"data.eval_split": ""})
    run, events = trained(config, "a", StopAfter(1))
    assert [(e.step, e.topic) for e in of_kind(events, Noticed)] == [(0, "few_negatives")]
    again = gone_on(run)
    assert len(of_kind(again, StepDone)) > 0
    assert of_kind(again, Noticed) == []


def test_the_loss_falls_and_unseen_classes_are_found_better(small_config: Config) -> None:
    config = override(small_config, {"training.steps": 40, "evaluation.every_steps": 40})
    _, events = trained(config, "a")
    curve = losses(events)
    assert sum(curve[-5:]) < 0.7 * sum(curve[:5])
    before, after = (event.figures["map"] for event in of_kind(events, Evaluated))
    assert after > before


def replaced_images(config: Config) -> list[float]:
    """By step, as the first worker tells; nothing on the others."""
    mailbox = Mailbox[Event]()
    train(Job(config, config.run.output), mailbox, CPU)
    return [step.figures["replaced_images"] for step in of_kind(mailbox.take(), StepDone)]


@pytest.mark.slow
def test_images_replaced_on_any_worker_are_counted(small_config: Config, tmp_path: Path) -> None:
    write_small_set(tmp_path / "shards")
    for row in read_catalogue(str(tmp_path / "shards")).table.to_pylist():
        if row["key"].endswith("picture_1"):
            with (tmp_path / "shards" / row["shard"]).open("r+b") as file:
                file.seek(row["offset"] + 40)
                file.write(b"damage")
    changes = {"data.shards": str(tmp_path / "shards"), "data.eval_split": "", "training.steps": 2}
    changes |= {
        "data.on_corrupt": "replace",
        "loss.kind": "triplet",
    }  # a loss that compiles nothing
    config = override(small_config, changes)
    alone = replaced_images(override(config, {"run.output": str(tmp_path / "alone")}))
    first, second = on_workers(2, replaced_images, config)
    assert first == alone
    assert min(alone) > 0
    assert second == []


def test_the_same_seed_trains_the_same_weights_and_another_does_not(
    small_config: Config, whole: Whole
) -> None:
    first, second = whole[0], weights(trained(small_config, "b")[0])
    other = weights(trained(override(small_config, {"training.seed": 1}), "c")[0])
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_the_size_of_a_chunk_changes_nothing(small_config: Config) -> None:
    config = override(small_config, {"training.optimizer": "sgd", "training.learning_rate": 0.1})
    _, reference = trained(config, "a")
    for size in (32, 5):
        _, events = trained(override(config, {"training.chunk_size": size}), f"by {size}")
        torch.testing.assert_close(losses(events), losses(reference), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_weights(
    small_config: Config, whole: Whole, stop: int
) -> None:
    run, events = trained(small_config, "stopped", StopAfter(stop - 1))
    assert len(losses(events)) == stop
    assert not Path(run.uri, "model.safetensors").exists()
    rest = gone_on(run)
    assert len(losses(rest)) == 6 - stop
    (expected, _), found = whole, weights(run)
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_a_crash_is_gone_on_from_the_last_checkpoint(
    small_config: Config,
    whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = create_run(override(small_config, {"run.name": "crashed"}), "test")
    step = stepping.global_step
    calls = []

    def crash(*arguments: Any, **options: Any) -> Any:
        calls.append(options["step"])
        if options["step"] == 5 and calls.count(5) == 1:
            raise RuntimeError("gone")
        return step(*arguments, **options)

    monkeypatch.setattr(stepping, "global_step", crash)
    with pytest.raises(RuntimeError, match="gone"):
        gone_on(run)
    gone_on(run)
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5]  # the checkpoint of step 4 was the last
    assert all(torch.equal(v, weights(run)[k]) for k, v in whole[0].items())


def test_without_an_evaluation_split_nothing_is_evaluated(small_config: Config) -> None:
    _, events = trained(override(small_config, {"data.eval_split": ""}), "a")
    assert not of_kind(events, Evaluated)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, torch.dtype]]:
    """Of each pass of the steps through the network: is a graph kept, and in which precision."""
    found, step = list[tuple[bool, torch.dtype]](), stepping.global_step

    def note(module: torch.nn.Module, _inputs: object, output: Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:  # the first layer
            found.append((torch.is_grad_enabled(), output.dtype))

    def watched(*arguments: Any, **options: Any) -> Any:
        hook = torch.nn.modules.module.register_module_forward_hook(note)
        try:
            return step(*arguments, **options)
        finally:
            hook.remove()

    monkeypatch.setattr(stepping, "global_step", watched)
    return found


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", BF16)])
def test_the_network_is_trained_in_the_precision_that_was_asked_for(
    small_config: Config,
    passes: list[tuple[bool, torch.dtype]],
    precision: str,
    dtype: torch.dtype,
) -> None:
    changes = {"training.precision": precision, "training.steps": 1, "data.eval_split": ""}
    trained(override(small_config, changes), "a")
    assert {seen for _, seen in passes} == {dtype}


def test_bf16_trains(small_config: Config, whole: Whole) -> None:
    _, events = trained(override(small_config, {"training.precision": "bf16"}), "a")
    assert losses(events)[0] == pytest.approx(whole[1][0], abs=0.02)


def test_what_is_kept_of_a_chunk_changes_nothing(small_config: Config) -> None:
    expected, *others = (
        losses(trained(override(small_config, {"training.activations": mode}), mode)[1])
        for mode in ("recompute", "store", "offload")
    )
    assert others == [expected, expected]


@pytest.mark.parametrize(("memory_gib", "mode"), [(1e-6, "recompute"), (1.0, "store")])
def test_activations_are_stored_if_they_fit_and_the_reason_is_told(
    small_config: Config,
    passes: list[tuple[bool, torch.dtype]],
    memory_gib: float,
    mode: str,
) -> None:
    changes = {"training.memory_gib": memory_gib, "training.steps": 1, "data.eval_split": ""}
    _, events = trained(override(small_config, changes), "a")
    (start,) = of_kind(events, Started)
    graphs = [has_graph for has_graph, _ in passes]
    assert graphs == ([True] * 4 if mode == "store" else [False] * 4 + [True] * 4)
    assert start.activations == mode
    assert "the graphs of 4 chunks of 8 images hold" in start.activations_reason


@pytest.mark.parametrize("kind", ["tie_aware", "triplet", "pml:ContrastiveLoss"])
def test_other_losses_train(small_config: Config, kind: str) -> None:
    run, events = trained(override(small_config, {"loss.kind": kind}), "a")
    assert len(losses(events)) == 6
    assert all(torch.isfinite(torch.tensor(losses(events))))
    step = of_kind(events, StepDone)[0].figures
    assert ("binned_map" in step) == (kind == "tie_aware")
    assert weights(run)


def test_a_sum_of_losses_trains_and_tells_the_binned_map_of_its_listwise_term(
    small_config: Config,
) -> None:
    config = override(small_config, {"training.steps": 1, "data.eval_split": ""})
    _, alone = trained(config, "alone")
    terms = ["ap=0.5", "calibration=0.1", "arcface=0.01"]
    _, events = trained(override(config, {"loss.terms": terms, "loss.scale": 8.0}), "sum")
    (listwise,), (step,) = of_kind(alone, StepDone), of_kind(events, StepDone)
    assert step.figures["binned_map"] == listwise.figures["binned_map"]
    assert step.figures["loss_ap"] == listwise.figures["loss"]
    weights = {"ap": 0.5, "calibration": 0.1, "arcface": 0.01}
    summed = sum(weight * step.figures[f"loss_{kind}"] for kind, weight in weights.items())
    assert step.figures["loss"] == pytest.approx(summed, rel=1e-6)
    assert "loss_ap" not in listwise.figures
    assert len(of_kind(events, Similarities)[0].positive) == 20


def test_a_list_of_exclusions_that_changed_is_refused_when_a_run_goes_on(
    small_config: Config, tmp_path: Path
) -> None:
    listed = tmp_path / "exclude.txt"
    listed.write_text("class:class 7\n")
    run, events = trained(override(small_config, {"data.exclude": str(listed)}), "a", StopAfter(2))
    index = read_catalogue(small_config.data.shards)
    (start,) = of_kind(events, Started)
    assert start.num_images == index.splits()["train"] - 6
    listed.write_text("class:class 8\n")
    with pytest.raises(ValueError, match="the list of excluded images has changed"):
        gone_on(run)


@pytest.mark.parametrize("by", ["class", "image"])
def test_a_held_out_share_is_evaluated_and_not_trained_on(small_config: Config, by: str) -> None:
    changes = {"data.holdout_share": 0.25, "data.holdout_by": by, "data.eval_split": "holdout"}
    _, events = trained(override(small_config, changes), "a")
    num_images = read_catalogue(small_config.data.shards).splits()["train"]
    (start,) = of_kind(events, Started)
    assert start.num_images == pytest.approx(0.75 * num_images, abs=6)
    evaluations = of_kind(events, Evaluated)
    assert [event.step for event in evaluations] == [0, 3, 6]
    assert evaluations[0].figures["num_queries"] == pytest.approx(0.25 * num_images, abs=6)


def test_a_network_that_is_fed_by_a_thread_learns_the_same(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights(trained(small_config, "a")[0])
    travelling(monkeypatch, LateCopies())
    stopped, events = trained(small_config, "b", StopAfter(2))
    assert len(losses(events)) == 3
    gone_on(stopped)
    found = weights(stopped)
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_a_stop_before_the_end_is_told_apart_from_the_end(small_config: Config) -> None:
    config = replace(small_config, data=replace(small_config.data, eval_split=""))
    run, events = trained(config, "a", StopAfter(2))
    assert not of_kind(events, Ended)
    assert of_kind(gone_on(run), Ended)
    assert issubclass(Interrupted, Exception)


class Roomy(Mailbox[Event]):
    """Has room for more workers once a step is done."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def post(self, event: Event) -> None:
        super().post(event)
        if isinstance(event, StepDone) and event.step >= self.step:
            self.tell_room(3)


def test_a_notice_is_answered_by_a_checkpoint_right_after_the_step(
    small_config: Config, whole: Whole
) -> None:
    run = create_run(override(small_config, {"run.name": "noticed"}), "test")
    link, answers = Mailbox[Event](), iter(["", "", "its host goes", "its host goes"])
    with pytest.raises(Regrouped, match="^its host goes; checkpoint after step 3$") as told:
        train(Job(run.config, run.uri), link, CPU, lambda: next(answers))
    assert told.value.ranks == (0,)
    events = link.take()
    assert [event.step for event in of_kind(events, CheckpointWritten)] == [2, 3]
    assert [event.step for event in of_kind(events, Evaluated)] == [0]  # there is no time for more
    rest = gone_on(run)
    assert losses(events) + losses(rest) == whole[1]
    assert [event.step for event in of_kind(rest, Evaluated)] == [3, 6]


def test_a_notice_at_the_last_step_or_after_a_stop_changes_nothing(
    small_config: Config, whole: Whole
) -> None:
    run = create_run(override(small_config, {"run.name": "last"}), "test")
    stopped, rest = StopAfter(0), Mailbox[Event]()
    train(Job(run.config, run.uri), stopped, CPU, lambda: "its host goes")
    events = stopped.take()
    assert len(losses(events)) == 1
    answers = iter([""] * 4 + ["its host goes"] * 9)
    train(Job(run.config, run.uri), rest, CPU, lambda: next(answers))
    assert losses(events) + losses(rest.take()) == whole[1]


@pytest.mark.parametrize(("number", "ends"), [("1-3", 4), (1, 6)], ids=["range", "number"])
def test_room_for_more_workers_is_used_at_a_checkpoint_by_a_range_only(
    small_config: Config, number: int | str, ends: int
) -> None:
    config = override(small_config, {"ray.num_workers": number, "run.name": "growing"})
    run, link = create_run(config, "test"), Roomy(3)
    expected = pytest.raises(Regrouped, match="room for 3 workers; checkpoint after step 4")
    with expected if ends == 4 else nullcontext():
        train(Job(run.config, run.uri), link, CPU)
    events = link.take()
    assert max(event.step for event in of_kind(events, StepDone)) == ends
    assert max(event.step for event in of_kind(events, CheckpointWritten)) == ends
