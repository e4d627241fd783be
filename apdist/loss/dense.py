"""The definition: every similarity and every bin at once, differentiated by autograd.

Shapes: q queries, n images, M bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apdist.loss.options import Bins, LossOptions
from apdist.loss.precision import average_precision_of_bins
from apdist.loss.scoring import warn_of_no_positives
from apdist.loss.tiles import Pairs


def dense_loss(descriptors: Tensor, pairs: Pairs, weights: Tensor, options: LossOptions) -> Tensor:
    """() float64 loss of ``descriptors`` (n, d), with the ``weights`` (n,) of the queries."""
    averages = dense_average_precision(descriptors, pairs, options)  # (n,)
    counted = weights.where(~averages.isnan(), 0.0)
    if bool(counted.sum() > 0):
        return 1 - (counted * averages.nan_to_num()).sum() / counted.sum()
    warn_of_no_positives(len(descriptors))
    # Zero that still belongs to the graph: backward() gives a gradient of zeros.
    return (descriptors * 0).sum(dtype=torch.float64)


def dense_average_precision(descriptors: Tensor, pairs: Pairs, options: LossOptions) -> Tensor:
    """(n,) float64 average precision of every query, NaN where undefined."""
    every = slice(0, len(descriptors))
    scores = descriptors @ descriptors.T
    # A unit vector's similarity with itself is a constant, at the very edge of the first bin.
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.detach().where(itself, scores)
    positive, excluded = pairs.positive(every, every), pairs.excluded(every, every)
    return average_precision_of_scores(scores, positive, excluded, options.bins, options.variant)


def average_precision_of_scores(
    scores: Tensor, positive: Tensor, excluded: Tensor, bins: Bins, variant: str
) -> Tensor:
    """(q,) float64 binned average precision, differentiable by ``scores``; O(q n M) memory.

        H_u = sum over images of clip(u + 1 - p, 0, 1),  p = clip((high - score) / width, 0, M - 1)

    Args:
        scores: (q, n) similarities, higher is better.
        positive: (q, n) bool.
        excluded: (q, n) bool, pairs that count neither as positive nor as negative.
        bins: quantisation.
        variant: one of options.VARIANTS.
    """
    places = ((bins.high - scores.double()) / bins.width).clamp(0, bins.num_bins - 1)
    upper = torch.arange(1, bins.num_bins + 1, dtype=places.dtype, device=places.device)
    shares = (upper[:, None, None] - places).clamp(0, 1)  # (M, q, n)
    shares = shares.masked_fill(excluded, 0.0)
    positives = shares.masked_fill(~positive, 0.0).sum(dim=2).T  # (q, M)
    return average_precision_of_bins(positives, shares.sum(dim=2).T, variant)
