"""Losses of pytorch-metric-learning by name, with arguments of their constructors.

One that needs the number of classes and the size of a descriptor is given both, and the places of
labels among the classes in place of the labels.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.config.baselines import arguments_of
from apdist.loss.centres import ClassPlaces
from apdist.loss.metric_learning_source import (
    CLASSES,
    PACKAGE,
    SIZES,
    constructor_parameters,
    refuse_arguments,
    refuse_unknown_name,
    signature_of,
)

logger = logging.getLogger(__name__)


def metric_learning(
    name: str, classes: Tensor, dim: int, *, arguments: tuple[str, ...] = (), **options: Any
) -> nn.Module:
    """A loss of pytorch-metric-learning by its class name, "TripletMarginLoss" for example.

    Needs the extra ``metric-learning``. Its 2.9.0 SmoothAPLoss is wrong unless there are as many
    classes in the batch as images of each: use ours.

    Args:
        name: of the class.
        classes: (C,) labels of all images that it will be called with.
        dim: size of a descriptor.
        arguments: of its constructor, as NAME=LITERAL.
        options: ``centres_rate``, which is for losses with parameters.

    Raises:
        ValueError: the package is not installed, has no such loss, or that refuses the arguments.
    """
    refuse_unknown_name(name)
    given = arguments_of(arguments)
    refuse_arguments(name, given)
    known = constructor_parameters(name)
    if CLASSES in known and known[CLASSES].default is None:
        given[CLASSES] = len(classes.unique())
        given |= {size: dim for size in SIZES if size in known}
    kind = getattr(importlib.import_module(f"{PACKAGE}.losses"), name)
    loss = _built(kind, given, signature_of(name))
    if "centres_rate" in options and not any(True for _ in loss.parameters()):
        raise ValueError(f"loss.centres_rate: pml:{name} has no parameters; leave it out")
    return _OfPlaces(loss, classes) if CLASSES in given else loss


class _OfPlaces(nn.Module):
    """A loss that wants labels from 0 on."""

    def __init__(self, loss: nn.Module, classes: Tensor) -> None:
        super().__init__()
        self.loss, self.places = loss, ClassPlaces(classes)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        loss: Tensor = self.loss(descriptors, self.places(labels))
        return loss


def _built(kind: Any, given: dict[str, Any], signature: str) -> nn.Module:
    """The loss; another one like it is tried on a few descriptors, to see arguments of wrong type.

    Raises:
        ValueError: what it makes of the arguments.
    """
    try:
        loss: nn.Module = kind(**given)
    except Exception as error:
        raise _refusal(error, signature) from error
    if CLASSES not in given:
        try:
            kind(**given)(normalize(torch.eye(8) + 0.1, dim=1), torch.arange(8) // 2)
        except TypeError as error:
            raise _refusal(error, signature) from error
        except Exception:
            logger.debug("%s wants other descriptors than the trial's", signature, exc_info=True)
    return loss


def _refusal(error: Exception, signature: str) -> ValueError:
    words = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"loss.arguments: {words}; it is {signature}")
