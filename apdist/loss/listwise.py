"""Listwise average-precision loss over a batch of any size (Revaud et al., ICCV 2019).

Shapes: n images in the batch, M bins, q queries.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from apdist.config.loss import Bins, LossOptions, Variant
from apdist.given import of_kind
from apdist.loss.autograd import tiled_loss
from apdist.loss.batch import check_lengths, checked_batch, device_of
from apdist.loss.dense import (
    average_precision_of_scores,
    check_scores,
    dense_average_precision,
    dense_loss,
)
from apdist.loss.gradient import cumulative_histograms
from apdist.loss.keywords import function_of, module_of
from apdist.loss.precision import average_precision_of_bins
from apdist.loss.results import Diagnostics


@dataclass(frozen=True, kw_only=True)
class _BatchOptions(LossOptions):
    ignore: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class _WeightedBatchOptions(_BatchOptions):
    query_weights: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class _ScoreOptions(Bins):
    variant: Variant = LossOptions.variant
    ignore: Tensor | None = None


@function_of(_WeightedBatchOptions)
def average_precision_loss(
    descriptors: Tensor,
    labels: Tensor,
    *,
    query_weights: Tensor | None = None,
    ignore: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """1 - mAP of the batch, every image a query against all others; () float64.

    Exact and differentiable once. The gradient is computed with the loss, unless `torch.no_grad` or
    the descriptors say that none is wanted. Memory is O(n M + n d) beside ``cache_mib``, except for
    backend "dense": O(n^2 M).
    Queries without a positive are left out; if none has one, the loss is 0, with a warning.

    Args:
        descriptors: (n, d) unit vectors.
        labels: (n,) integers, equal for images of one class.
        query_weights: (n,) floating point, not negative, one at least above 0: weights in the mean,
            normalised over the queries that have a positive; no gradient flows to them.
        ignore: (n,) integers; images that share a non-negative id but not a label are left out of
            each other's lists.
        options: fields of `LossOptions`, described there.

    Raises:
        ValueError: an argument is not as described; the message says what came and what to do.
    """
    return _loss(descriptors, labels, query_weights, ignore, LossOptions(**options))[0]


@function_of(_BatchOptions)
def average_precision(
    descriptors: Tensor, labels: Tensor, *, ignore: Tensor | None = None, **options: Any
) -> Tensor:
    """(n,) float64 binned average precision of each image as a query, NaN where undefined.

    Not differentiable; the arguments are those of `average_precision_loss`.
    """
    # Nothing is kept for a second pass.
    asked = dataclasses.replace(LossOptions(**options), cache_mib=0)
    with torch.no_grad(), torch.autocast(device_of(descriptors), enabled=False):
        batch = checked_batch(descriptors, labels, ignore, None, asked)
        if batch.backend == "dense":
            return dense_average_precision(batch)
        found, _ = cumulative_histograms(batch, slice(0, len(descriptors)))
        if not batch.lengths_are_checked:
            check_lengths(batch.descriptors, batch.tolerance)
        return average_precision_of_bins(found.positives, found.everything, asked.variant)


@function_of(_ScoreOptions)
def average_precision_from_scores(
    scores: Tensor, positive: Tensor, *, ignore: Tensor | None = None, **options: Any
) -> Tensor:
    """(q,) float64 binned average precision of given scores, NaN where undefined; differentiable.

    Args:
        scores: (q, n) score of each query with each image, higher is better; O(q n M) memory.
        positive: (q, n) bool, True where the image is of the query's class.
        ignore: (q, n) bool, True where the image is left out of the query's list.
        options: ``num_bins``, ``min_score``, ``max_score`` and ``variant`` of `LossOptions`.

    Raises:
        ValueError: shapes or dtypes differ from these, or a score is not finite.
    """
    asked = _ScoreOptions(**options)
    given = {"scores": scores, "positive": positive, "ignore": ignore}
    for name, tensor in given.items():
        if name != "ignore" or tensor is not None:
            of_kind(name, tensor, Tensor, f"use torch.as_tensor({name})")
    if ignore is None:
        ignore = torch.zeros_like(positive, dtype=torch.bool)
    check_scores(scores, positive, ignore)
    with torch.autocast(scores.device.type, enabled=False):
        return average_precision_of_scores(scores, positive, ignore, asked, asked.variant)


class AveragePrecisionLoss(nn.Module):
    """`average_precision_loss` with its options fixed.

    After a call, ``diagnostics`` holds the by-products of that call (None with backend "dense").
    For the rows of one of several workers there is `score_own_rows`.
    """

    @module_of(LossOptions)
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = LossOptions(**options)
        self.diagnostics: Diagnostics | None = None

    def extra_repr(self) -> str:
        """What `print(module)` shows."""
        return f"{self.options}"

    def forward(
        self,
        descriptors: Tensor,
        labels: Tensor,
        query_weights: Tensor | None = None,
        ignore: Tensor | None = None,
    ) -> Tensor:
        """() float64 loss of the batch; see `average_precision_loss`."""
        loss, self.diagnostics = _loss(descriptors, labels, query_weights, ignore, self.options)
        return loss


TieAwareLoss = partial(AveragePrecisionLoss, variant="tie_aware")
SimplifiedTieAwareLoss = partial(AveragePrecisionLoss, variant="tie_aware_simplified")


@torch._disable_dynamo  # type: ignore[attr-defined]  # compiled kernels cannot be traced
def _loss(
    descriptors: Tensor,
    labels: Tensor,
    query_weights: Tensor | None,
    ignore: Tensor | None,
    options: LossOptions,
) -> tuple[Tensor, Diagnostics | None]:
    with torch.autocast(device_of(descriptors), enabled=False):
        batch = checked_batch(descriptors, labels, ignore, query_weights, options)
        return (dense_loss(batch), None) if batch.backend == "dense" else tiled_loss(batch)
