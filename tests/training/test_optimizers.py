"""The update rules and the learning rate of a step."""

import logging

import pytest
import torch

from apdist.config import Config, override
from apdist.training.optimizers import build_optimizer, learning_rate_at, update_weights


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


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_optimiser_gets_its_options(small_config: Config, kind: str) -> None:
    config = override(small_config, {"training.optimizer": kind, "training.weight_decay": 0.25})
    optimizer = build_optimizer(torch.nn.Linear(2, 2), config)  # type: ignore[arg-type]
    assert type(optimizer).__name__.lower() == kind
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


def one_weight(config: Config, gradient: float) -> float:
    """Where a weight of 0 goes to with ``gradient``."""
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    network.weight.grad = torch.full((1, 1), gradient)
    update_weights(network, build_optimizer(network, config), 0, config)  # type: ignore[arg-type]
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
