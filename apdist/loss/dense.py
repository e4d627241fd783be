"""The definition: every similarity and every bin at once, differentiated by autograd.

Shapes: q queries, n images, M bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apdist.config.loss import Bins, Variant
from apdist.loss.batch import Batch
from apdist.loss.precision import average_precision_of_bins, bin_width, clipped
from apdist.loss.results import warn_of_no_positives


def dense_loss(batch: Batch) -> Tensor:
    """() float64 loss of the ``batch``, differentiable."""
    descriptors, averages = batch.descriptors, dense_average_precision(batch)  # (n, d), (n,)
    counted = batch.weights_of(slice(0, len(averages))).where(~averages.isnan(), 0.0)
    if bool(counted.sum() > 0):
        return 1 - (counted * averages.nan_to_num()).sum() / counted.sum()
    warn_of_no_positives(len(descriptors))
    # Zero that still belongs to the graph: backward() gives a gradient of zeros.
    return (descriptors * 0).sum(dtype=torch.float64)


def dense_average_precision(batch: Batch) -> Tensor:
    """(n,) float64 average precision of every query, NaN where undefined."""
    descriptors, pairs, options = batch.descriptors, batch.pairs, batch.options
    every = slice(0, len(descriptors))
    scores = descriptors @ descriptors.T
    # A unit vector's similarity with itself is a constant, at the very edge of the first bin.
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.detach().where(itself, scores)
    positive, excluded = pairs.positive(every, every), pairs.excluded(every, every)
    return average_precision_of_scores(scores, positive, excluded, options, options.variant)


def average_precision_of_scores(
    scores: Tensor, positive: Tensor, excluded: Tensor, bins: Bins, variant: Variant
) -> Tensor:
    """(q,) float64 binned average precision, differentiable by ``scores``; O(q n M) memory.

        H_u = sum over images of clip(u + 1 - p, 0, 1),  p = clip((high - score) / width, 0, M - 1)

    Args:
        scores: (q, n) similarities, higher is better.
        positive: (q, n) bool.
        excluded: (q, n) bool, pairs that count neither as positive nor as negative.
        bins: quantisation.
        variant: see `average_precision_of_bins`.
    """
    places = clipped((bins.max_score - scores.double()) / bin_width(bins), bins.num_bins - 1)
    upper = torch.arange(1, bins.num_bins + 1, dtype=places.dtype, device=places.device)
    shares = clipped(upper[:, None, None] - places, 1)  # (M, q, n)
    shares = shares.masked_fill(excluded, 0.0)
    positives = shares.masked_fill(~positive, 0.0).sum(dim=2).T  # (q, M)
    return average_precision_of_bins(positives, shares.sum(dim=2).T, variant)


def check_scores(scores: Tensor, positive: Tensor, ignore: Tensor) -> None:
    """Refuse ``scores`` (q, n) that are not finite, and masks that are not bool of their shape."""
    if scores.dim() != 2 or not scores.is_floating_point():
        raise ValueError(
            "scores must be floating point of shape (q, n), "
            f"got {scores.dtype} of shape {tuple(scores.shape)}; pass one row per query"
        )
    for name, mask in (("positive", positive), ("ignore", ignore)):
        if mask.shape != scores.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"{name} must be bool of shape {tuple(scores.shape)} like the scores, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}; compare labels with =="
            )
        if mask.device != scores.device:
            raise ValueError(
                f"{name} must be on {scores.device} with the scores, got {mask.device}; "
                f"use {name}.to(scores.device)"
            )
    rows = (~scores.detach().isfinite()).any(dim=1).nonzero()
    if len(rows) > 0:
        raise ValueError(
            f"scores must be finite, got NaN or infinity in {len(rows)} rows, "
            f"the first is row {int(rows[0, 0])}; leave images out with ignore instead"
        )
