"""Loss and gradient of a worker's own rows of the global batch.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size, M bins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from apdist.loss.histogram import Codes, cumulative_histograms
from apdist.loss.kernels.backends import new_tables
from apdist.loss.options import Bins, LossOptions
from apdist.loss.precision import NUM_SCALARS
from apdist.loss.tiles import Pairs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnostics:
    """By-products of the loss over the global batch, the same on every worker."""

    num_queries: int
    """Queries with a positive; the loss is their mean."""

    num_lone_queries: int
    """Queries without a positive, left out."""

    positive_histogram: Tensor
    """(M,) float64 positive pairs (query, image) by bin of similarity, best first."""

    negative_histogram: Tensor
    """(M,) float64 negative pairs."""

    wrong_sign_share: float
    """Share of the positive pairs that are pushed apart: binned AP is not monotone."""

    def mean_score(self, kind: Literal["positive", "negative"], bins: Bins) -> float:
        """Mean similarity of the ``kind`` pairs, to the resolution of the bins; NaN without any."""
        histogram = self.positive_histogram if kind == "positive" else self.negative_histogram
        return float((histogram * bins.centres().to(histogram)).sum() / histogram.sum())


@dataclass(frozen=True)
class RowScores:
    """What one worker knows after scoring its own rows of the global batch."""

    loss: Tensor
    """() float64 global 1 - mAP, the same on every worker."""

    average_precision: Tensor
    """(b,) float64 per own query, NaN where undefined."""

    gradient: Tensor
    """(b, d) derivative of the loss by the own descriptors, in their dtype."""

    diagnostics: Diagnostics
    """By-products, the same on every worker."""

    @property
    def num_queries(self) -> int:
        """Global number of queries that have a positive: V."""
        return self.diagnostics.num_queries

    @property
    def num_lone_queries(self) -> int:
        """Global number of queries without a positive."""
        return self.diagnostics.num_lone_queries


@dataclass(frozen=True)
class ScoredRows:
    """The first pass: the loss, and the slopes that its gradient is made of."""

    loss: Tensor
    """() float64, global."""

    average_precision: Tensor
    """(b,) float64, NaN where undefined."""

    slopes: Tensor
    """(b, 2, M-1) derivative of the loss by the score of a negative, of a positive."""

    codes: Codes
    """Intervals of the pairs for the second pass, or nothing."""

    diagnostics: Diagnostics


def score_rows(
    descriptors: Tensor,
    pairs: Pairs,
    rows: slice,
    weights: Tensor,
    options: LossOptions,
    sum_over_workers: Callable[[Tensor], Tensor],
) -> ScoredRows:
    """Run the first pass over the own ``rows`` of ``descriptors`` (n, d).

    ``weights`` (n,) of the queries need not have mean 1. Calls ``sum_over_workers`` exactly once,
    whatever the batch, so that the collectives of all workers match.
    """
    histograms, codes = cumulative_histograms(descriptors, pairs, rows, options)
    tables = new_tables(descriptors, histograms, weights[rows].double(), options)
    sums = sum_over_workers(tables.sums)
    diagnostics, weight = _diagnostics(sums)
    if weight > 0:
        # Weights of mean 1 divided by the number of queries: the same as by their sum.
        loss, scale = 1 - sums[0] / weight, tables.counted / -weight
    else:
        warn_of_no_positives(len(descriptors))
        loss, scale = torch.zeros_like(sums[0]), torch.zeros_like(tables.counted)
    slopes = (scale[:, None, None] * tables.slopes).to(descriptors.dtype)  # (b, 2, M-1)
    return ScoredRows(loss, tables.averages, slopes, codes, diagnostics)


def warn_of_no_positives(num_images: int) -> None:
    """Say why the loss is 0."""
    logger.warning(
        "no query among %d images has a positive of weight above 0: loss and gradient are 0; "
        "draw several images of a class into a batch",
        num_images,
    )


def _diagnostics(sums: Tensor) -> tuple[Diagnostics, float]:
    """By-products of the loss, and the sum of the weights, from the global sums of Tables."""
    numbers = sums[:NUM_SCALARS].tolist()
    _, weight, num_queries, num_lone, num_positives, num_wrong = numbers
    positive, negative = sums[NUM_SCALARS:].chunk(2)
    diagnostics = Diagnostics(
        num_queries=round(num_queries),
        num_lone_queries=round(num_lone),
        positive_histogram=positive,
        negative_histogram=negative,
        wrong_sign_share=num_wrong / num_positives if num_positives > 0 else 0.0,
    )
    return diagnostics, weight
