"""What is trained at which step: frozen parts, unfrozen at a step, over restarts and workers."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import Config, LoraConfig, ModelConfig, TrainingConfig, override
from apdist.model.descriptor import DescriptorNet
from apdist.training.events import Event
from apdist.training.job import Job
from apdist.training.learning.freezing import Freezing, build_trainable, trained_share
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.worker import train
from tests.training.test_loop import StopAfter, gone_on, trained, weights
from tests.workers import on_workers

FROZEN = {"training.freeze": ("backbone.layers.0", "backbone.layers.3", "pooling")}


def built(backbone: str = "small", **options: Any) -> DescriptorNet:
    model = ModelConfig(backbone=backbone, dim=8, batch_norm="chunk")
    return build_trainable(model, LoraConfig(), TrainingConfig(**options))


def is_moved(before: dict[str, Tensor], after: dict[str, Tensor], name: str) -> bool:
    return not torch.equal(before[name], after[name])


def test_batch_norm_of_a_frozen_part_keeps_its_statistics() -> None:
    options: dict[str, Any] = {"freeze": ("backbone.layer1", "backbone.*.conv1"), "unfreeze_at": 5}
    network = built("resnet18", **options).train()
    freezing = Freezing(network, TrainingConfig(**options))
    images = torch.rand(4, 3, 32, 32)
    names = ["backbone.layer1.0.bn1.running_mean", "backbone.layer2.0.bn1.running_mean"]
    for step, moves in ((0, [False, True]), (4, [False, True]), (5, [True, True])):
        freezing.set_step(step)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.eval()
        network.train()
        network(images)
        assert [is_moved(before, network.state_dict(), name) for name in names] == moves


def test_how_much_is_trained_is_told_of_the_first_step() -> None:
    options = TrainingConfig(freeze=("backbone",), unfreeze_at=2)
    network = build_trainable(ModelConfig(dim=8), LoraConfig(), options)
    assert trained_share(network, options) == (1 + 8 * 128 + 8, 243_753)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ("backbon.*",)}, r"training.freeze: nothing .* did you mean 'backbone.\*'"),
        ({"freeze": ("*",)}, r"training.freeze \* leaves nothing to train"),
        ({"freeze": ("*",), "unfreeze_at": 3}, r"training.freeze \* leaves nothing to train"),
        ({"checkpoint_blocks": True}, "model.backbone small has no blocks"),
    ],
)
def test_what_cannot_be_frozen_or_checkpointed_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        built(**options)


def states_of(run: Run) -> set[str]:
    """Names of the parameters of which the newest checkpoint holds the optimiser's state."""
    found = newest_sound(run.uri)
    assert found is not None
    state = torch.load(io.BytesIO(found.state), weights_only=True)
    return set(state["optimizer"]["state"])


def test_what_is_frozen_does_not_move_and_has_no_state_in_the_optimiser(
    small_config: Config,
) -> None:
    config = override(small_config, {**FROZEN, "loss.kind": "triplet", "data.eval_split": ""})
    run, _ = trained(config, "a")
    free, _ = trained(override(config, {"training.freeze": (), "training.steps": 1}), "b")
    after, others = weights(run), weights(free)
    frozen = {name for name in after if name.startswith(FROZEN["training.freeze"])}
    assert len(frozen) == 3
    torch.manual_seed(0)
    before = DescriptorNet(config.model).state_dict()
    for name in after:
        assert is_moved(before, after, name) != (name in frozen), name
        assert is_moved(before, others, name), name
    assert states_of(run) == set(after) - frozen


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_what_is_unfrozen_at_a_step_is_so_after_a_restart_on_either_side_of_it(
    small_config: Config, stop: int
) -> None:
    changes = {**FROZEN, "training.unfreeze_at": 3, "checkpoint.every_steps": 1}
    config = override(small_config, changes | {"loss.kind": "triplet", "data.eval_split": ""})
    whole, _ = trained(config, "whole")
    run, _ = trained(config, "stopped", StopAfter(stop))
    frozen = {"backbone.layers.0.weight", "backbone.layers.3.weight", "pooling.p"}
    assert bool(states_of(run) & frozen) == (stop + 1 > 3)
    gone_on(run)
    expected, found = weights(whole), weights(run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    torch.manual_seed(0)
    assert all(is_moved(DescriptorNet(config.model).state_dict(), found, name) for name in frozen)


def train_together(config: Config, uri: str, stop: int) -> None:
    link = StopAfter(stop) if stop else Mailbox[Event]()
    train(Job(config, uri), link, torch.device("cpu"))


def test_workers_unfreeze_together_sharded_or_not(small_config: Config) -> None:
    changes = {**FROZEN, "training.unfreeze_at": 3, "checkpoint.every_steps": 1}
    changes |= {"loss.kind": "triplet", "data.eval_split": "", "training.optimizer": "sgd"}
    changes |= {"training.activations": "recompute", "training.clip_norm": 0.5}
    alone, _ = trained(override(small_config, changes), "alone")
    expected = weights(alone)
    for parameters, stop in (("replicated", 0), ("sharded", 1)):
        more = {"training.parameters": parameters, "ray.num_workers": 2}
        more |= {"run.name": f"{parameters}-{stop}"}
        run = create_run(override(alone.config, more), "test")
        for last in [*([stop] if stop else []), 0]:
            on_workers(2, train_together, run.config, run.uri, last)
        found = weights(run)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
