"""The update rule and its learning rate, which is a function of the step alone."""

import logging
import math

import torch
from torch import nn

from apdist.config import Config
from apdist.training.step.sharding import whole

logger = logging.getLogger(__name__)


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters."""
    return optimizer_of([p for p in network.parameters() if p.requires_grad], config)


def optimizer_of(parameters: list[nn.Parameter], config: Config) -> torch.optim.Optimizer:
    """The update rule of a run, for ``parameters``."""
    options = config.training
    rate, decay = options.learning_rate, options.weight_decay
    # One kernel for all parameters in place of several for each.
    fused = all(p.device.type == "cuda" for p in parameters)
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=fused)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay, fused=fused)


def learning_rate_at(step: int, config: Config) -> float:
    """Learning rate of ``step``: a function of the step alone, so nothing has to be resumed."""
    options = config.training
    share = (step + 0.5) / options.steps
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "linear":
        return options.learning_rate * (1 - share)
    if share < options.warmup_share:
        return options.learning_rate * share / options.warmup_share
    fall = (share - options.warmup_share) / (1 - options.warmup_share)
    return options.learning_rate * (1 + math.cos(math.pi * fall)) / 2


def update_weights(
    network: nn.Module, optimizer: torch.optim.Optimizer, step: int, config: Config
) -> bool:
    """Move the weights by the mean gradient of the batches of ``step``, clipped; whether they were.

    They are left where they are by a gradient that is not finite.
    """
    options, parameters = config.training, list(network.parameters())
    if options.accumulate > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(options.accumulate)
    # Gradients are reduced already, so every worker finds the same norm and decides alike.
    norm = whole(nn.utils.clip_grad_norm_(parameters, options.clip_norm or math.inf))
    is_finite = bool(torch.isfinite(norm))
    if is_finite:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        optimizer.step()
    else:
        logger.warning("step %d has a gradient that is not finite; skipped", step)
    optimizer.zero_grad()
    return is_finite
