"""What a space or a drawn setting cannot be, found before a trial starts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from apdist.config import Config, LossConfig
from apdist.training.sweeps.space import corner_configs, losses_of
from apdist_verbs.start.checks import check_memory, check_start, check_training_split
from apdist_verbs.start.model_check import check_loss, check_model

if TYPE_CHECKING:
    from apdist.data.catalogue.catalogue import Catalogue
    from apdist.training.sweeps.dimension import Dimension

NETWORK = ("model.", "lora.", "training.freeze", "training.rates", "training.layer_decay")
"""Begin the names of options that the network may refuse when it is built."""

_STATISTICS = "scipy.stats"


def refuse_unfit_metric_learning(losses: Iterable[LossConfig], dim: int) -> None:
    """Refuse losses of pytorch-metric-learning that cannot be built, before anything else is read.

    Names first, and those of arguments: they are known without its import, which takes seconds.

    Args:
        losses: of all trials; those of ours are passed over.
        dim: size of a descriptor.

    Raises:
        ValueError: it has none of this name, does not take the arguments, or is not installed.
    """
    from apdist.config.baselines import arguments_of
    from apdist.config.losses import METRIC_LEARNING
    from apdist.loss.metric_learning_source import refuse_arguments, refuse_unknown_name

    found = [loss for loss in losses if any(n.startswith(METRIC_LEARNING) for n in loss.weights)]
    for loss in found:
        for kind in loss.weights:
            if kind.startswith(METRIC_LEARNING):
                refuse_unknown_name(name := kind.removeprefix(METRIC_LEARNING))
                refuse_arguments(name, arguments_of(loss.arguments))
    if found:
        _import_metric_learning()
    for loss in found:
        check_loss(loss, dim)


def _import_metric_learning() -> None:
    """Its losses without SciPy's statistics, which take half a second and which none of them uses.

    What else it has reads ``scipy.stats`` where it uses it, and SciPy imports that then. A version
    that takes something out of it at once is imported as usual, by who builds the loss.
    """
    if _STATISTICS in sys.modules:
        return
    sys.modules[_STATISTICS] = ModuleType(_STATISTICS)
    try:
        with suppress(ImportError):
            importlib.import_module("pytorch_metric_learning.losses")
    finally:
        del sys.modules[_STATISTICS]


def refuse_unfit_space(dimensions: list[Dimension], config: Config) -> None:
    """Refuse a space of which one choice, or one end of a range, cannot be trained by itself.

    Raises:
        ValueError: a loss cannot be built, a batch cannot be filled, a part of the network is not
            there.
    """
    corners = corner_configs(dimensions, config)
    for changed in corners:  # these first: they need no torch, whose import takes a second
        refuse_unfillable(changed)
    for loss in losses_of(dimensions, config):
        check_loss(loss, size_for(loss, config.model.dim))
    for changed in corners:
        check_loss(changed.loss, size_for(changed.loss, changed.model.dim))


def refuse_unfit(config: Config) -> None:
    """Raise unless a training with these options can begin, as far as this process can tell.

    Raises:
        ValueError: it cannot.
    """
    refuse_unfillable(config)
    check_loss(config.loss, size_for(config.loss, config.model.dim))


def size_for(loss: LossConfig, dim: int) -> int:
    """Numbers of a descriptor; of a network that is not built here, as many as ``loss`` takes."""
    return dim or max((64, *(1 + size for size in loss.matryoshka)))


def refuse_unfillable(config: Config) -> None:
    """The part of `refuse_unfit` that is about images.

    Raises:
        ValueError: a batch cannot be filled, a split is missing, or memory does not hold it.
    """
    from apdist.data.plan.batch_sampler import build_plan

    images = _training_images(config)
    check_training_split(images, config.data.train_split)
    check_start(config, build_plan(images.labels, config).summary.steps_per_epoch)
    check_memory(config)


def refuse_unfit_networks(dimensions: list[Dimension], config: Config) -> None:
    """Build the network with each choice that it may refuse.

    Raises:
        ValueError: a package or a file with weights is not there, or a pattern fits nothing.
    """
    varied = [d for d in dimensions if d.name.startswith(NETWORK)]
    for changed in [config, *(corner_configs(varied, config) if varied else [])]:
        check_model(changed)


def _training_images(config: Config) -> Catalogue:
    from apdist.data.catalogue.selection import training_images

    return training_images(_catalogue(config.data.shards), config.data, config.training.seed)


@lru_cache(maxsize=2)
def _catalogue(shards: str) -> Any:
    from apdist.data.catalogue.catalogue import read_catalogue

    return read_catalogue(shards)
