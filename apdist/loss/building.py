"""The loss of a run from its section of the configuration."""

import pkgutil

import numpy as np
import torch
from numpy.typing import NDArray

from apdist.config.loss_section import LossConfig
from apdist.config.losses import METRIC_LEARNING, loss_of
from apdist.loss.batch_loss import BatchLoss
from apdist.loss.matryoshka import Matryoshka
from apdist.loss.weighted import WeightedSum


def build_loss(config: LossConfig, classes: NDArray[np.int64], dim: int) -> BatchLoss:
    """The loss that ``config`` names, or their sum, with the options chosen there; its Matryoshka.

    Centres of classes begin as torch's random numbers have it.

    Args:
        config: says which, and how.
        classes: labels of the images that are trained on; one may come several times.
        dim: size of a descriptor.

    Raises:
        ValueError: a loss of pytorch-metric-learning that is not there, or refuses its arguments;
            or fewer numbers than ``loss.matryoshka`` has.
    """
    whole = _build_sum(config, classes, dim)
    if not config.matryoshka:
        return whole
    if config.matryoshka[-1] >= dim:
        raise ValueError(
            f"loss.matryoshka {config.matryoshka[-1]} is not below the {dim} numbers of a "
            "descriptor, which are scored anyway; leave it out"
        )
    parts = {size: _build_sum(config, classes, size) for size in config.matryoshka}
    return Matryoshka(whole, parts)


def _build_sum(config: LossConfig, classes: NDArray[np.int64], dim: int) -> BatchLoss:
    built = {kind: _build(config, kind, classes, dim) for kind in config.weights}
    if not config.terms:
        return built[config.kind]
    return WeightedSum([(built[kind], weight) for kind, weight in config.weights.items()])


def _build(config: LossConfig, kind: str, classes: NDArray[np.int64], dim: int) -> BatchLoss:
    entry = loss_of(kind)
    constructor, options = pkgutil.resolve_name(entry.constructor), config.options_of(kind)
    loss: BatchLoss
    if not entry.has_centres:
        loss = constructor(**options)
        return loss
    named = [kind.removeprefix(METRIC_LEARNING)] if kind.startswith(METRIC_LEARNING) else []
    loss = constructor(*named, torch.from_numpy(np.unique(classes)), dim, **options)
    return loss
