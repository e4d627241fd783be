"""The update rules and the learning rate of a step."""

import logging
import math
import subprocess
import sys

import pytest
import torch

from apdist.config import Config, TrainingConfig, override
from apdist.training.learning.optimizers import (
    build_optimizer,
    learning_rate_at,
    move,
    update_weights,
)
from apdist.training.learning.parameter_groups import ParameterGroup, parameter_groups


def test_the_learning_rate_rises_falls_and_depends_on_the_step_alone(small_config: Config) -> None:
    config = override(small_config, {"training.steps": 100, "training.learning_rate": 1.0})
    rates = [learning_rate_at(step, config) for step in range(100)]
    top = rates.index(max(rates))
    assert top == 20
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.01
    linear = override(config, {"training.schedule": "linear"})
    assert learning_rate_at(49, linear) == pytest.approx(0.505)
    assert learning_rate_at(7, override(config, {"training.schedule": "constant"})) == 1.0


def rates_of(config: Config, **options: object) -> list[float]:
    """The learning rate of ten steps, where the peak is 1."""
    changes = {f"training.{name}": value for name, value in options.items()}
    changes |= {"training.steps": 10, "training.learning_rate": 1.0}
    return [learning_rate_at(step, override(config, changes)) for step in range(10)]


def test_cosine_falls_by_half_a_period_of_it_after_the_warm_up(small_config: Config) -> None:
    rates = rates_of(small_config, schedule="cosine", warmup_steps=2, final_share=0.1)
    assert rates[:2] == [0.25, 0.75]
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * (k + 0.5) / 8)) / 2 for k in range(8)]
    assert rates[2:] == pytest.approx(expected)
    assert rates_of(small_config, schedule="linear", final_share=0.5)[-1] == pytest.approx(0.525)
    assert rates_of(small_config, schedule="constant", warmup_steps=1) == [0.5, *[1.0] * 9]


def test_the_step_schedule_changes_the_rate_at_its_milestones(small_config: Config) -> None:
    rates = rates_of(
        small_config, schedule="step", milestones=[4, 7], milestone_factor=0.5, warmup_steps=2
    )
    assert rates == [0.25, 0.75, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_each_group_moves_by_its_own_share_of_the_rate(small_config: Config) -> None:
    plain = {"training.optimizer": "sgd", "training.schedule": "constant"}
    config = override(small_config, plain | {"training.learning_rate": 0.5})
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [ParameterGroup([weights[0]], 0.5), ParameterGroup([weights[1]], 2.0, 0.25)]
    optimizer = build_optimizer(groups, config.training)
    for step in range(2):  # the factor is of each step's rate, not of the one before
        for weight in weights:
            weight.grad = torch.ones(1)
            weight.data.fill_(1.0)
        optimizer.state.clear()
        update_weights(optimizer, step, config)
        assert [weight.item() for weight in weights] == [0.75, -0.25]


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_optimiser_gets_its_options(small_config: Config, kind: str) -> None:
    config = override(small_config, {"training.optimizer": kind, "training.weight_decay": 0.25})
    groups = parameter_groups(torch.nn.Linear(2, 2), config.training)
    optimizer = build_optimizer(groups, config.training)
    assert type(optimizer).__name__.lower() == kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]


def one_weight(config: Config, gradient: float) -> float:
    """Where a weight of 0 goes to with ``gradient``."""
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    network.weight.grad = torch.full((1, 1), gradient)
    groups = parameter_groups(network, config.training)
    update_weights(build_optimizer(groups, config.training), 0, config)
    assert network.weight.grad is None
    return network.weight.item()


def test_the_gradients_of_the_batches_of_a_step_are_averaged_and_clipped(
    small_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    plain = {"training.optimizer": "sgd", "training.schedule": "constant"}
    plain |= {"training.learning_rate": 0.5, "training.weight_decay": 0.0}  # type: ignore[dict-item]
    config = override(small_config, plain | {"training.clip_norm": 0.0})
    assert one_weight(config, 3.0) == -1.5
    assert one_weight(override(config, {"training.accumulate": 2}), 3.0) == -0.75
    clipped = override(config, {"training.clip_norm": 1.0})
    assert one_weight(clipped, 3.0) == pytest.approx(-0.5, rel=1e-5)
    with caplog.at_level(logging.WARNING):
        assert one_weight(config, float("nan")) == 0.0
    assert "step 0 has a gradient that is not finite; skipped" in caplog.text


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_the_parameters_move_as_torch_moves_them(rule: str) -> None:
    moved = []
    for step in (move, lambda optimizer: optimizer.step()):
        layer = torch.nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.copy_(torch.arange(6.0).view(2, 3))
            layer.bias.fill_(0.5)
        group = ParameterGroup(tuple(layer.parameters()), 1.0, 0.1)
        optimizer = build_optimizer([group], TrainingConfig(optimizer=rule))
        for _ in range(3):
            layer(torch.tensor([1.0, -2.0, 3.0])).square().sum().backward()
            step(optimizer)
            optimizer.zero_grad()
        moved.append(torch.cat([layer.weight.detach().flatten(), layer.bias.detach()]))
    assert torch.equal(*moved)
    assert not torch.equal(moved[0][:6], torch.arange(6.0))


def test_a_worker_imports_no_compiler_and_nothing_of_sharding() -> None:
    code = (
        "import sys, torch\n"
        "from apdist.config import TrainingConfig\n"
        "import apdist.training.worker\n"
        "from apdist.training.learning.optimizers import build_optimizer, move\n"
        "from apdist.training.learning.parameter_groups import ParameterGroup\n"
        "from apdist.training.step.states import load_optimizer_state, optimizer_state\n"
        "network = torch.nn.Linear(3, 2)\n"
        "group = ParameterGroup(tuple(network.parameters()), 1.0, 0.1)\n"
        "optimizer = build_optimizer([group], TrainingConfig(optimizer='adamw'))\n"
        "network(torch.ones(3)).sum().backward()\n"
        "move(optimizer)\n"
        "optimizer.zero_grad()\n"
        "load_optimizer_state(network, optimizer, optimizer_state(network, optimizer))\n"
        "slow = {'torch._dynamo', 'torch.distributed.tensor', 'torch.distributed.fsdp', 'sympy'}\n"
        "sys.exit(str(slow & set(sys.modules)) if slow & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
