"""The update rule and its learning rate, which is a function of the step alone."""

import inspect
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from apdist.config import Config, TrainingConfig
from apdist.training.learning.parameter_groups import ParameterGroup
from apdist.training.step.sharding import full_tensor

logger = logging.getLogger(__name__)

FACTOR = "factor"
"""Of the learning rate: what a group of the optimiser has beside torch's own options."""


def build_optimizer(
    groups: Sequence[ParameterGroup], options: TrainingConfig
) -> torch.optim.Optimizer:
    """The optimiser over ``groups``, in their order."""
    _without_compiler()
    rate, parameters = options.learning_rate, [p for group in groups for p in group.parameters]
    # One kernel for all parameters of a group in place of several for each.
    fused = all(p.device.type == "cuda" for p in parameters)
    rules: list[dict[str, Any]] = [
        {
            "params": list(group.parameters),
            "weight_decay": group.weight_decay,
            FACTOR: group.factor,
        }
        for group in groups
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(rules, lr=rate, momentum=0.9, fused=fused)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(rules, lr=rate, fused=fused)


def move(optimizer: torch.optim.Optimizer) -> None:
    """Move the parameters by their gradients: ``optimizer.step()`` without what torch puts around.

    That imports torch.compile, over a second in each worker, to keep it out of the step.
    """
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def _without_compiler() -> None:
    """Keep other methods of torch's optimisers from importing torch.compile for the same reason.

    Its wrapper does so on the first call unless it knows what to call instead. Where torch names
    that otherwise one day, it takes its time again.
    """
    for method in vars(torch.optim.Optimizer).values():
        if getattr(method, "__globals__", {}).get("__name__") == "torch._compile":
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)


def learning_rate_at(step: int, config: Config) -> float:
    """Learning rate of ``step``: a function of the step alone, so nothing has to be resumed."""
    options = config.training
    if options.schedule == "one_cycle":
        return _one_cycle((step + 0.5) / options.steps, options)
    if step + 0.5 < options.warmup_steps:
        return options.learning_rate * (step + 0.5) / options.warmup_steps
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "step":
        passed = sum(milestone <= step for milestone in options.milestones)
        return options.learning_rate * options.milestone_factor**passed
    share = (step + 0.5 - options.warmup_steps) / (options.steps - options.warmup_steps)
    left = 1 - share if options.schedule == "linear" else _cosine(share)
    return options.learning_rate * (options.final_share + (1 - options.final_share) * left)


def _one_cycle(share: float, options: TrainingConfig) -> float:
    """Learning rate after a ``share`` of the steps."""
    if share < options.warmup_share:
        return options.learning_rate * share / options.warmup_share
    fall = (share - options.warmup_share) / (1 - options.warmup_share)
    return options.learning_rate * _cosine(fall)


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def update_weights(optimizer: torch.optim.Optimizer, step: int, config: Config) -> bool:
    """Move the weights by the mean gradient of the batches of ``step``, clipped; whether they were.

    They are left where they are by a gradient that is not finite.
    """
    options = config.training
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if options.accumulate > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(options.accumulate)
    # Gradients are reduced already, so every worker finds the same norm and decides alike.
    norm = full_tensor(nn.utils.clip_grad_norm_(parameters, options.clip_norm or math.inf))
    is_finite = bool(torch.isfinite(norm))
    if is_finite:
        rate = learning_rate_at(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate * group[FACTOR]
        move(optimizer)
    else:
        logger.warning("step %d has a gradient that is not finite; skipped", step)
    optimizer.zero_grad()
    return is_finite
