"""What a loss learns itself: moved with the network, saved and restored with it."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from apdist.config import Config, override
from apdist.loss.baselines import Contrastive
from apdist.loss.building import build_loss
from apdist.loss.centres import ArcFace
from apdist.training.events import Event
from apdist.training.job import Job
from apdist.training.learning.loss_parameters import LossParameters
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.runs import Run
from apdist.training.step.collectives import Workers
from apdist.training.worker import train
from apdist_verbs.resume import resume
from tests.reference import unit_rows
from tests.training.test_loop import StopAfter, gone_on, losses, trained, weights
from tests.workers import on_workers

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")
LABELS = torch.arange(12) // 3


def learned(config: Config, num_classes: int = 4) -> LossParameters:
    torch.manual_seed(0)
    loss = build_loss(config.loss, np.arange(num_classes), 5)
    return LossParameters(loss, config, Workers())


def moved(parameters: LossParameters, rate: float, num_batches: int = 1) -> Tensor:
    """By how much an update moves the centres of ArcFace."""
    (centres,) = parameters.parameters
    before = centres.detach().clone()
    for _ in range(num_batches):
        parameters.loss(unit_rows(12, 5, seed=1, dtype=torch.float32), LABELS).backward()
    parameters.update(rate)
    parameters.zero_grad()
    assert centres.grad is None
    return centres.detach() - before


def plain(**changes: object) -> Config:
    sgd = {"training.optimizer": "sgd", "training.weight_decay": 0.0, "loss.kind": "arcface"}
    return override(Config(), sgd | {k.replace("__", "."): v for k, v in changes.items()})


def test_centres_move_by_the_mean_gradient_at_their_own_rate() -> None:
    once = moved(learned(plain()), 0.01)
    assert once.abs().max() > 0
    faster = moved(learned(plain(loss__centres_rate=3.0)), 0.01)
    torch.testing.assert_close(faster, 3 * once)
    twice = moved(learned(plain(training__accumulate=2)), 0.01, num_batches=2)
    torch.testing.assert_close(twice, once)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    parameters = learned(plain())
    (centres,) = parameters.parameters
    before = centres.detach().clone()
    centres.grad = torch.full_like(centres, torch.nan)
    parameters.update(0.1)
    assert torch.equal(centres.detach(), before)


def test_a_loss_without_parameters_has_nothing_to_keep() -> None:
    parameters = learned(override(Config(), {"loss.kind": "contrastive"}))
    assert parameters.loss == Contrastive()
    parameters.update(0.1)
    parameters.zero_grad()
    assert (parameters.parameters, parameters.state_dict()) == ([], {})
    parameters.load_state_dict({})


def test_centres_go_on_with_the_state_of_their_optimiser() -> None:
    config = override(Config(), {"loss.kind": "arcface"})
    whole, first = learned(config), learned(config)
    for parameters in (whole, first):
        moved(parameters, 0.01)
    state = first.state_dict()
    moved(first, 0.01)  # the copy stays as it was
    rest = learned(override(config, {"loss.margin": 0.2}))
    rest.load_state_dict(state)
    rest.loss.options = whole.loss.options  # type: ignore[attr-defined]
    assert torch.equal(moved(rest, 0.01), moved(whole, 0.01))


@pytest.mark.parametrize("other", ["nothing", "classes", "loss"])
def test_centres_of_other_classes_begin_anew(other: str, caplog: pytest.LogCaptureFixture) -> None:
    config = override(Config(), {"loss.kind": "arcface"})
    there = learned(config)
    moved(there, 0.01)
    state = {} if other == "nothing" else there.state_dict()
    here = learned(config, 5) if other == "classes" else learned(config)
    if other == "loss":
        here = learned(override(config, {"loss.terms": ["ap=1", "arcface=1"]}))
    before = here.parameters[0].detach().clone()
    with caplog.at_level(logging.WARNING):
        here.load_state_dict(state)
    assert torch.equal(here.parameters[0], before)
    assert "no centres for classes and sizes of loss" in caplog.text


def of_worker() -> Tensor:
    torch.manual_seed(Workers().rank)
    parameters = LossParameters(ArcFace(LABELS, 3), plain(), Workers())
    return parameters.parameters[0].detach()


CENTRES = {"loss.kind": "proxy_anchor", "loss.centres_rate": 5.0, "training.accumulate": 2}


def centres_of(run: Run) -> dict[str, Tensor]:
    found = newest_sound(run.uri)
    assert found is not None
    state = torch.load(io.BytesIO(found.state), weights_only=True)
    centres: dict[str, Tensor] = state["loss"]["loss"]
    return centres


def test_a_stopped_run_goes_on_to_the_same_centres(small_config: Config) -> None:
    config = override(small_config, CENTRES)
    whole, events = trained(config, "whole")
    run, _ = trained(config, "stopped", StopAfter(2))
    stopped = centres_of(run)["centres"]
    gone_on(run)
    expected, found = centres_of(whole), centres_of(run)
    assert torch.equal(expected["centres"], found["centres"])
    assert not torch.equal(stopped, found["centres"])
    assert len(expected["places.classes"]) == 8  # of the training split
    assert all(torch.equal(weights(whole)[k], value) for k, value in weights(run).items())
    assert not [name for name in weights(whole) if "centres" in name]
    curve = losses(events)
    assert curve[-1] < curve[0]


def test_the_centres_change_no_clip_of_the_network(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    clipped: list[set[tuple[int, ...]]] = []
    clip = nn.utils.clip_grad_norm_

    def noted(parameters: list[nn.Parameter], most: float) -> Tensor:
        clipped.append({tuple(p.shape) for p in parameters})
        return clip(parameters, most)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", noted)
    changes = CENTRES | {"training.clip_norm": 0.1, "training.steps": 1, "data.eval_split": ""}
    run, _ = trained(override(small_config, changes), "a")
    assert centres_of(run)["centres"].shape == (8, 16)
    assert clipped
    assert not [shapes for shapes in clipped if (8, 16) in shapes]


def on_worker(config: Config) -> Tensor:
    began = of_worker()
    train(Job(config, config.run.output), Mailbox[Event](), torch.device("cpu"))
    return began


def test_workers_begin_with_the_same_centres_and_learn_those_that_one_does(
    small_config: Config, tmp_path: Path
) -> None:
    changes = CENTRES | {"training.optimizer": "sgd", "data.eval_split": "", "training.steps": 2}
    alone, _ = trained(override(small_config, changes), "alone")
    changes |= {"training.parameters": "sharded", "ray.num_workers": 2}
    config = override(small_config, changes | {"run.output": str(tmp_path / "both")})
    first, second = on_workers(2, on_worker, config)
    assert torch.equal(first, second)  # those of worker 0
    both = Run(config.run.output, config, "test")
    torch.testing.assert_close(
        centres_of(both)["centres"], centres_of(alone)["centres"], rtol=1e-4, atol=1e-5
    )


def test_another_loss_may_go_on_from_a_network(
    small_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = trained(override(small_config, CENTRES), "a", StopAfter(2))
    one = ["--data.eval-split", "", "--training.steps", "5", "--run.name"]
    assert resume([run.uri, "--fork", *one, "same", "--loss.margin", "0.3"]) == 0
    other = ["--loss.kind", "contrastive"]
    assert resume([run.uri, "--fork", *one, "other", *other, "--loss.centres-rate", "auto"]) == 0
    assert "begin anew" not in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"loss.centres_rate 5.0 is no option of contrastive"):
        resume([run.uri, "--fork", *one, "no", *other])
    terms = ["--loss.kind", "ap", "--loss.terms", "contrastive=1", "arcface=0.1"]
    assert resume([run.uri, "--fork", *one, "anew", *terms]) == 0
    assert "of loss 1 contrastive + 0.1 arcface: they begin anew" in capsys.readouterr().err
