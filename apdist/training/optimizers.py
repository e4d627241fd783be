"""The update rule and its learning rate, which is a function of the step alone."""

import math

import torch
from torch import nn

from apdist.config import Config


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters."""
    options = config.training
    parameters = [p for p in network.parameters() if p.requires_grad]
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay)


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
