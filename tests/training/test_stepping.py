"""One optimiser step: its batches, its figures, how the weights move."""

import logging
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.model.pretrained import build_model
from apdist.training import stepping
from apdist.training.events import Event, PhaseBegan, Similarities, StepDone
from apdist.training.mailbox import Mailbox
from apdist.training.step.options import StepOptions
from apdist.training.step.step import global_step
from tests.trainings import losses, of_kind, trained, weights

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


class Patient(Mailbox[Event]):
    """Knows whether it was told that a batch is long in coming."""

    def __init__(self) -> None:
        super().__init__()
        self.is_told = threading.Event()

    def post(self, event: Event) -> None:
        super().post(event)
        if isinstance(event, PhaseBegan) and event.name == "waiting for storage":
            self.is_told.set()


def test_a_batch_that_is_long_in_coming_is_told(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, on_time = Patient(), TrainingStream.batches

    def late(stream: TrainingStream, start: int, stop: int) -> Any:
        for batch in on_time(stream, start, stop):
            assert link.is_told.wait(30)
            yield batch

    monkeypatch.setattr(stepping, "PATIENCE_S", 0.1)
    monkeypatch.setattr(TrainingStream, "batches", late)
    changes = {"loss.kind": "triplet", "data.eval_split": "", "training.steps": 1}
    _, events = trained(override(small_config, changes), "a", link)
    told = [e.name if isinstance(e, PhaseBegan) else e.kind for e in events]
    assert told[told.index("first step") :][:4] == [
        *("first step", "waiting for storage", "computing", "step")
    ]


def test_a_batch_that_came_is_not_waited_for_any_more(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "PATIENCE_S", 1000.0)
    changes = {"loss.kind": "triplet", "data.eval_split": "", "training.steps": 2}
    trained(override(small_config, changes), "a")
    late = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert [timer for timer in late if not timer.finished.is_set()] == []


def test_a_gradient_that_is_not_finite_is_skipped_with_a_warning(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = stepping.global_step

    def poisoned(model: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        result = step(model, *arguments, **options)
        if options["step"] == 2:
            next(model.parameters()).grad[0] = float("nan")  # type: ignore[index]
        return result

    monkeypatch.setattr(stepping, "global_step", poisoned)
    with caplog.at_level(logging.WARNING):
        run, events = trained(small_config, "a")
    assert "step 2 has a gradient that is not finite" in caplog.text
    assert all(v.isfinite().all() for v in weights(run).values())
    assert len(losses(events)) == 6


def test_accumulated_batches_move_the_weights_by_their_mean(small_config: Config) -> None:
    options = {"training.optimizer": "sgd", "training.schedule": "constant"}
    options |= {"training.weight_decay": 0.0, "training.clip_norm": 0.0}  # type: ignore[dict-item]
    config = override(small_config, options | {"training.learning_rate": 0.1})
    start = weights(trained(override(config, {"training.learning_rate": 1e-30}), "start")[0])
    one_step = override(config, {"training.steps": 1, "training.accumulate": 2})
    run, events = trained(one_step, "both")
    both = weights(run)
    gradients = []
    for step in (0, 1):  # one batch after the other, from the same weights
        network = build_model(config.model).train()
        network.load_state_dict(start)
        gradients.append(gradient_of(config, network, step))
    for name, parameter in network.named_parameters():
        expected = start[name] - 0.1 * (gradients[0][name] + gradients[1][name]) / 2
        torch.testing.assert_close(both[name], expected, rtol=1e-4, atol=1e-6)
        assert parameter.requires_grad
    assert len(losses(events)) == 1


def gradient_of(config: Config, network: torch.nn.Module, step: int) -> dict[str, Tensor]:
    index = read_catalogue(config.data.shards).select("train")
    options = config.training
    plan = Plan(
        index.labels,
        batch_size=options.batch_size,
        group_size=config.data.group_size,
        seed=options.seed,
    )
    stream = TrainingStream(index, plan, config.data, config.augment, lambda rows: rows)
    (batch,) = stream.batches(step, step + 1)
    global_step(
        network,
        batch.images,
        batch.labels,
        StepOptions(loss=AveragePrecisionLoss(), chunk_size=8),
        step=step,
    )
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_clipping_bounds_the_update(small_config: Config) -> None:
    options = {
        "training.optimizer": "sgd",
        "training.schedule": "constant",
        "training.steps": 1,
        "training.weight_decay": 0.0,
    }
    clipped = override(small_config, {**options, "training.clip_norm": 1e-6})
    start = weights(trained(override(clipped, {"training.learning_rate": 1e-12}), "a")[0])
    moved = weights(trained(override(clipped, {"training.learning_rate": 1.0}), "b")[0])
    free = override(small_config, {**options, "training.learning_rate": 1.0})
    far = weights(trained(free, "c")[0])
    name = "linear.weight"
    assert (moved[name] - start[name]).norm() < 1e-5
    assert (far[name] - start[name]).norm() > 1e-3


def test_a_step_tells_what_the_loss_saw(small_config: Config) -> None:
    _, events = trained(small_config, "a")
    step = of_kind(events, StepDone)[0].figures
    assert -1 <= step["negative_similarity"] < step["positive_similarity"] <= 1
    assert 0 <= step["wrong_sign_share"] < 0.5
    assert step["lone_queries"] == 0
    told = of_kind(events, Similarities)
    assert [event.step for event in told] == [1, 3, 6]
    for event in told:
        assert sum(event.positive) == pytest.approx(1)
        assert sum(event.negative) == pytest.approx(1)
        assert event.centres[0] == 1
