"""Losses of pytorch-metric-learning by name, with arguments of their constructors.

One that needs the number of classes and the size of a descriptor is given both, and the places of
labels among the classes in place of the labels.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.config.rivals import arguments_of
from apdist.loss.centres import ClassPlaces
from apdist.loss.metric_learning_names import PACKAGE, refuse_unknown_name

logger = logging.getLogger(__name__)

_SIZES = ("embedding_size", "descriptors_dim")
"""Names of the size of a descriptor."""
_CLASSES = "num_classes"


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
    kind = _class_of(name)
    known = _parameters_of(kind)
    given = arguments_of(arguments)
    signature = f"{name}({', '.join(map(str, known.values()))})"
    for argument in given:
        if argument in (_CLASSES, *_SIZES) and _CLASSES in known:
            raise ValueError(
                f"loss.arguments: {argument} of pml:{name} is known from the data and the model; "
                "leave it out"
            )
        if argument not in known:
            close = get_close_matches(argument, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"loss.arguments: pml:{name} has no argument {argument!r}{hint}; it is {signature}"
            )
    if _is_required(known.get(_CLASSES)):
        given[_CLASSES] = len(classes.unique())
        given |= {size: dim for size in _SIZES if size in known}
    loss = _built(kind, given, signature)
    if "centres_rate" in options and not any(True for _ in loss.parameters()):
        raise ValueError(f"loss.centres_rate: pml:{name} has no parameters; leave it out")
    return _OfPlaces(loss, classes) if _CLASSES in given else loss


class _OfPlaces(nn.Module):
    """A loss that wants labels from 0 on."""

    def __init__(self, loss: nn.Module, classes: Tensor) -> None:
        super().__init__()
        self.loss, self.places = loss, ClassPlaces(classes)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        loss: Tensor = self.loss(descriptors, self.places(labels))
        return loss


def _class_of(name: str) -> Any:
    refuse_unknown_name(name)
    return getattr(importlib.import_module(f"{PACKAGE}.losses"), name)


def _parameters_of(kind: Any) -> dict[str, inspect.Parameter]:
    """What the constructor takes, those of the classes that it extends included."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if base.__module__.startswith(PACKAGE) and "__init__" in vars(base):
            (_, *own) = inspect.signature(base.__init__).parameters.values()
            for parameter in own:
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    found.setdefault(parameter.name, parameter)
    return found


def _is_required(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _built(kind: Any, given: dict[str, Any], signature: str) -> nn.Module:
    """The loss; another one like it is tried on a few descriptors, to see arguments of wrong type.

    Raises:
        ValueError: what it makes of the arguments.
    """
    try:
        loss: nn.Module = kind(**given)
    except Exception as error:
        raise _refusal(error, signature) from error
    if _CLASSES not in given:
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
