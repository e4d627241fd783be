"""Losses that learn a centre (proxy, weight vector) for each class, to compare with.

Images are compared with C centres in place of each other. A loss knows its classes by their labels,
so the same image has the same centre on every worker and after every resume.

All n C cosines would be held several times over: a part of `_MOST` is computed at a time, and
again in the backward pass. What stays is C d numbers: centres, their gradient, what an optimiser
keeps.

Shapes: n images in the batch, d descriptor size, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from apdist.config.baselines import (
    ArcFaceOptions,
    CosFaceOptions,
    NormalisedSoftmaxOptions,
    ProxyAnchorOptions,
)
from apdist.loss.batch import checked_descriptors

_MOST = 1 << 25
"""Cosines at once: 128 MiB in float32, three or four times that with what is made of them."""


class ClassPlaces(nn.Module):
    """Places of labels among the sorted ``classes`` (C,).

    Args:
        classes: labels that there are, in any order.
    """

    classes: Tensor

    def __init__(self, classes: Tensor) -> None:
        super().__init__()
        self.register_buffer("classes", classes.long().unique())

    def forward(self, labels: Tensor) -> Tensor:
        """(n,) integers from 0 to C - 1.

        Raises:
            ValueError: one of the ``labels`` (n,) is of no class.
        """
        places = torch.searchsorted(self.classes, labels.long())
        known = self.classes[places.clamp(max=len(self.classes) - 1)] == labels
        if not bool(known.all()):
            raise ValueError(
                f"labels must be of the {len(self.classes)} classes that the loss has centres for, "
                f"got {int(labels[~known][0])}; build the loss with the classes of all images"
            )
        return places


class CentresLoss(nn.Module):
    """Centres (C, d) of classes, which start as random unit vectors.

    Args:
        classes: (C,) labels of the classes.
        dim: d.
    """

    def __init__(self, classes: Tensor, dim: int) -> None:
        super().__init__()
        self.places = ClassPlaces(classes)
        num_classes = len(self.places.classes)
        self.centres = nn.Parameter(F.normalize(torch.randn(num_classes, dim), dim=1))

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        descriptors = checked_descriptors(descriptors, labels)
        if descriptors.shape[1] != self.centres.shape[1]:
            raise ValueError(
                f"descriptors must have the {self.centres.shape[1]} numbers of the centres, "
                f"got {descriptors.shape[1]}"
            )
        with torch.autocast(descriptors.device.type, enabled=False):
            centres = F.normalize(self.centres.to(descriptors.dtype), dim=1)
            return self.loss_of(descriptors, centres, self.places(labels))

    def loss_of(self, descriptors: Tensor, centres: Tensor, places: Tensor) -> Tensor:
        """() loss of unit ``descriptors`` (n, d), unit ``centres`` (C, d) and ``places`` (n,)."""
        raise NotImplementedError


class _Softmax(CentresLoss):
    """Mean over images of the cross-entropy of the `logits` with the class of the image."""

    def logits(self, cosines: Tensor, places: Tensor) -> Tensor:
        """(n, C) from ``cosines`` (n, C) with the centres, of images of ``places`` (n,)."""
        raise NotImplementedError

    def loss_of(self, descriptors: Tensor, centres: Tensor, places: Tensor) -> Tensor:
        """() loss of unit ``descriptors`` (n, d), unit ``centres`` (C, d) and ``places`` (n,)."""
        size = max(1, _MOST // len(centres))
        parts = zip(descriptors.split(size), places.split(size), strict=True)
        sums = _in_parts(self._sum, [(rows, centres, own) for rows, own in parts])
        return sums / len(descriptors)

    def _sum(self, descriptors: Tensor, centres: Tensor, places: Tensor) -> Tensor:
        logits = self.logits(descriptors @ centres.T, places)
        return F.cross_entropy(logits, places, reduction="sum")


class ArcFace(_Softmax):
    """Softmax with a margin of the angle to the own centre (Deng et al., CVPR 2019).

    The logits are scale * cos(angle), and scale * cos(angle + margin) for the own class; where that
    sum exceeds a half turn scale * (cos(angle) - margin * sin(margin)), which goes on to fall.
    """

    def __init__(self, classes: Tensor, dim: int, **options: Any) -> None:
        super().__init__(classes, dim)
        self.options = ArcFaceOptions(**options)

    def logits(self, cosines: Tensor, places: Tensor) -> Tensor:
        """(n, C) from ``cosines`` (n, C) with the centres, of images of ``places`` (n,)."""
        margin = self.options.margin
        own = cosines.gather(1, places[:, None])  # (n, 1)
        # The root has no derivative at 0, where the angle is 0 or a half turn.
        sines = (1 - own.square()).clamp(min=1e-12).sqrt()
        turned = own * math.cos(margin) - sines * math.sin(margin)
        beyond = own - margin * math.sin(margin)
        own = torch.where(own >= -math.cos(margin), turned, beyond)
        return self.options.scale * cosines.scatter(1, places[:, None], own)


class CosFace(_Softmax):
    """Softmax with a margin of the cosine to the own centre (Wang et al., CVPR 2018).

    The logits are scale * cosine, and scale * (cosine - margin) for the own class.
    """

    def __init__(self, classes: Tensor, dim: int, **options: Any) -> None:
        super().__init__(classes, dim)
        self.options = CosFaceOptions(**options)

    def logits(self, cosines: Tensor, places: Tensor) -> Tensor:
        """(n, C) from ``cosines`` (n, C) with the centres, of images of ``places`` (n,)."""
        margins = cosines.new_full((len(cosines), 1), -self.options.margin)
        return self.options.scale * cosines.scatter_add(1, places[:, None], margins)


class NormalisedSoftmax(_Softmax):
    """Softmax of cosines with the centres, over a temperature (Zhai and Wu, BMVC 2019)."""

    def __init__(self, classes: Tensor, dim: int, **options: Any) -> None:
        super().__init__(classes, dim)
        self.options = NormalisedSoftmaxOptions(**options)

    def logits(self, cosines: Tensor, places: Tensor) -> Tensor:  # noqa: ARG002
        """(n, C) from ``cosines`` (n, C) with the centres."""
        return cosines / self.options.temperature


class ProxyAnchor(CentresLoss):
    """Each centre against the images of its class and all others (Kim et al., CVPR 2020).

    The mean over the classes in the batch of log(1 + sum exp(-alpha (s+ - margin))), and the mean
    over all classes of log(1 + sum exp(alpha (s- + margin))).
    """

    def __init__(self, classes: Tensor, dim: int, **options: Any) -> None:
        super().__init__(classes, dim)
        self.options = ProxyAnchorOptions(**options)

    def loss_of(self, descriptors: Tensor, centres: Tensor, places: Tensor) -> Tensor:
        """() loss of unit ``descriptors`` (n, d), unit ``centres`` (C, d) and ``places`` (n,)."""
        numbers = torch.arange(len(centres), device=places.device)
        num_in_batch = len(places.unique())
        weights = 1 / num_in_batch, 1 / len(centres)
        size = max(1, _MOST // len(descriptors))
        parts = zip(centres.split(size), numbers.split(size), strict=True)
        return _in_parts(
            self._sum, [(descriptors, rows, places, own, weights) for rows, own in parts]
        )

    def _sum(
        self,
        descriptors: Tensor,
        centres: Tensor,
        places: Tensor,
        numbers: Tensor,
        weights: tuple[float, float],
    ) -> Tensor:
        """Of some ``centres``, which have these ``numbers``."""
        alpha, margin = self.options.alpha, self.options.margin
        cosines = centres @ descriptors.T
        own = numbers[:, None] == places[None, :]
        pulls = (-alpha * (cosines - margin)).masked_fill(~own, -torch.inf)
        pushes = (alpha * (cosines + margin)).masked_fill(own, -torch.inf)
        # log(1 + sum exp(x)) without overflow; softplus(-inf) would have no derivative.
        none = cosines.new_zeros(len(centres), 1)
        first = torch.cat((none, pulls), dim=1).logsumexp(dim=1).sum()
        second = torch.cat((none, pushes), dim=1).logsumexp(dim=1).sum()
        return weights[0] * first + weights[1] * second


def _in_parts(function: Callable[..., Tensor], parts: list[tuple[Any, ...]]) -> Tensor:
    """Sum of a ``function`` of each of the ``parts``; of several, nothing but the sum is kept."""
    if len(parts) == 1:
        return function(*parts[0])
    sums = [
        checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts
    ]
    return torch.stack(sums).sum()
