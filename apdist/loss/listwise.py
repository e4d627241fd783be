"""Listwise average-precision loss over a batch of any size (Revaud et al., ICCV 2019).

Shapes: n images in the batch, b of them rows of this worker, d descriptor size, q queries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from apdist.loss import checks
from apdist.loss.autograd import tiled_loss
from apdist.loss.dense import average_precision_of_scores, dense_average_precision, dense_loss
from apdist.loss.histogram import cumulative_histograms, descriptor_gradient
from apdist.loss.options import Bins, LossOptions
from apdist.loss.precision import average_precision_of_bins
from apdist.loss.scoring import Diagnostics, RowScores, score_rows
from apdist.loss.tiles import Pairs

__all__ = [
    "AveragePrecisionLoss",
    "Diagnostics",
    "RowScores",
    "average_precision",
    "average_precision_from_scores",
    "average_precision_loss",
]


def average_precision_loss(
    descriptors: Tensor,
    labels: Tensor,
    *,
    num_bins: int = 20,
    score_range: tuple[float, float] = (-1.0, 1.0),
    variant: str = "ap",
    include_self: bool = False,
    query_weights: Tensor | None = None,
    ignore: Tensor | None = None,
    tile_size: int | None = None,
    backend: str = "auto",
    cache_bytes: int | Literal["auto"] = "auto",
    check_norm: bool = True,
    precision: str = "float32",
) -> Tensor:
    """1 - mAP of the batch, every image a query against all others; () float64.

    Exact and differentiable once. Memory is O(n M + n d), except for backend "dense": O(n^2 M).
    Queries without a positive are left out; if none has one, the loss is 0, with a warning.

    Args:
        descriptors: (n, d) unit vectors.
        labels: (n,) integers, equal for images of one class.
        num_bins: M, bins of similarity over ``score_range``.
        score_range: centres of the last and the first bin.
        variant: "ap", "tie_aware" or "tie_aware_simplified".
        include_self: a query is also its own positive, as in the published code.
        query_weights: (n,) weights in the mean, normalised over the queries that have a positive;
            constants, no gradient flows to them.
        ignore: (n,) integers; images that share a non-negative id but not a label are left out of
            each other's lists.
        tile_size: rows and columns of similarities held at once; None chooses by device. On a GPU
            a multiple of 128, the next one if need be.
        backend: "tiled" (any device), "dense" (the definition), "numba" (CPU), "triton" (float32 on
            CUDA) or "auto", the fastest here.
        cache_bytes: memory for one byte a pair that saves the backward pass a matrix product;
            "auto" is 256 MiB, on a GPU half of what is free if that is more.
        check_norm: refuse descriptors whose length is not 1 within 1e-3.
        precision: of the matrix products: "float32", or "bf16x3", three products of bfloat16, a
            few times faster on a GPU with an error near that of float32.

    Raises:
        ValueError: an argument is not as described; the message says what came and what to do.
    """
    bins = Bins(num_bins=num_bins, score_range=score_range)
    options = LossOptions(
        bins, variant, include_self, tile_size, backend, cache_bytes, check_norm, precision
    )
    return _loss(descriptors, labels, query_weights, ignore, options)[0]


def average_precision(
    descriptors: Tensor,
    labels: Tensor,
    *,
    num_bins: int = 20,
    score_range: tuple[float, float] = (-1.0, 1.0),
    variant: str = "ap",
    include_self: bool = False,
    ignore: Tensor | None = None,
    tile_size: int | None = None,
    backend: str = "auto",
    check_norm: bool = True,
    precision: str = "float32",
) -> Tensor:
    """(n,) float64 binned average precision of each image as a query, NaN where undefined.

    Not differentiable; the arguments are those of `average_precision_loss`.
    """
    bins = Bins(num_bins=num_bins, score_range=score_range)
    options = LossOptions(bins, variant, include_self, tile_size, backend, 0, check_norm, precision)
    with torch.no_grad(), torch.autocast(checks.device_of(descriptors), enabled=False):
        descriptors = checks.checked_descriptors(descriptors, check_norm)
        pairs = _checked_pairs(descriptors, labels, ignore, options)
        every = slice(0, len(descriptors))
        if backend == "dense":
            return dense_average_precision(descriptors, pairs, options)
        histograms, _ = cumulative_histograms(descriptors, pairs, every, options)
        return average_precision_of_bins(histograms.positives, histograms.everything, variant)


def average_precision_from_scores(
    scores: Tensor,
    positive: Tensor,
    *,
    num_bins: int = 20,
    score_range: tuple[float, float] = (-1.0, 1.0),
    variant: str = "ap",
    ignore: Tensor | None = None,
) -> Tensor:
    """(q,) float64 binned average precision of given scores, NaN where undefined; differentiable.

    Args:
        scores: (q, n) score of each query with each image, higher is better; O(q n M) memory.
        positive: (q, n) bool, True where the image is of the query's class.
        num_bins: M, bins over ``score_range``.
        score_range: centres of the last and the first bin.
        variant: "ap", "tie_aware" or "tie_aware_simplified".
        ignore: (q, n) bool, True where the image is left out of the query's list.

    Raises:
        ValueError: shapes or dtypes differ from these, or a score is not finite.
    """
    options = LossOptions(Bins(num_bins=num_bins, score_range=score_range), variant)
    if ignore is None:
        ignore = torch.zeros_like(positive, dtype=torch.bool)
    checks.check_scores(scores, positive, ignore)
    with torch.autocast(scores.device.type, enabled=False):
        return average_precision_of_scores(scores, positive, ignore, options.bins, variant)


class AveragePrecisionLoss(nn.Module):
    """`average_precision_loss` with its settings fixed, and its form for several workers.

    After a call, ``diagnostics`` holds the by-products of that call (None with backend "dense").
    """

    def __init__(
        self,
        *,
        num_bins: int = 20,
        score_range: tuple[float, float] = (-1.0, 1.0),
        variant: str = "ap",
        include_self: bool = False,
        tile_size: int | None = None,
        backend: str = "auto",
        cache_bytes: int | Literal["auto"] = "auto",
        check_norm: bool = True,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        bins = Bins(num_bins=num_bins, score_range=score_range)
        self.options = LossOptions(
            bins, variant, include_self, tile_size, backend, cache_bytes, check_norm, precision
        )
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

    def score_rows(
        self,
        descriptors: Tensor,
        labels: Tensor,
        rows: slice,
        *,
        sum_over_workers: Callable[[Tensor], Tensor],
        gather_rows: Callable[[Tensor], Tensor],
        ignore: Tensor | None = None,
        query_weights: Tensor | None = None,
    ) -> RowScores:
        """Loss of the global batch and the gradient of this worker's ``rows``, without a graph.

        Both collectives are called exactly once, in this order, whatever the batch.

        Args:
            descriptors: (n, d) gathered from all workers, the same on each.
            labels: (n,) gathered likewise.
            rows: this worker's part of the n rows; may be empty.
            sum_over_workers: adds a small float64 tensor over the workers.
            gather_rows: joins the workers' (b, ...) tensors to (n, ...) in the order of their rows.
            ignore: (n,) as in `average_precision_loss`, gathered.
            query_weights: (n,) likewise.

        Raises:
            ValueError: as `average_precision_loss`, on all workers alike; or backend "dense".
        """
        if self.options.backend == "dense":
            raise ValueError('backend "dense" serves one process; use "tiled" or "auto" for rows')
        with torch.no_grad(), torch.autocast(checks.device_of(descriptors), enabled=False):
            dtype = descriptors.dtype
            descriptors = checks.checked_descriptors(descriptors, self.options.check_norm)
            pairs = _checked_pairs(descriptors, labels, ignore, self.options)
            weights = _checked_weights(descriptors, query_weights)
            rows = checks.own_rows(rows, len(descriptors))
            scored = score_rows(descriptors, pairs, rows, weights, self.options, sum_over_workers)
            slopes = gather_rows(scored.slopes)  # (n, 2, M-1)
            gradient = descriptor_gradient(
                descriptors, pairs, rows, slopes, self.options, scored.codes
            )
        return RowScores(
            scored.loss, scored.average_precision, gradient.to(dtype), scored.diagnostics
        )


@torch._disable_dynamo  # type: ignore[attr-defined]  # compiled kernels cannot be traced
def _loss(
    descriptors: Tensor,
    labels: Tensor,
    query_weights: Tensor | None,
    ignore: Tensor | None,
    options: LossOptions,
) -> tuple[Tensor, Diagnostics | None]:
    with torch.autocast(checks.device_of(descriptors), enabled=False):
        descriptors = checks.checked_descriptors(descriptors, options.check_norm)
        pairs = _checked_pairs(descriptors, labels, ignore, options)
        weights = _checked_weights(descriptors, query_weights)
        if options.backend == "dense":
            return dense_loss(descriptors, pairs, weights, options), None
        return tiled_loss(descriptors, pairs, weights, options)


def _checked_pairs(
    descriptors: Tensor, labels: Tensor, ignore: Tensor | None, options: LossOptions
) -> Pairs:
    checks.check_backend(options, descriptors)
    checks.check_labels("labels", labels, descriptors)
    has_junk = ignore is not None
    if ignore is None:
        ignore = torch.full_like(labels, -1, dtype=torch.int64)
    checks.check_labels("ignore", ignore, descriptors)
    return Pairs(labels.long(), ignore.long(), options.include_self, has_junk)


def _checked_weights(descriptors: Tensor, query_weights: Tensor | None) -> Tensor:
    if query_weights is None:
        return descriptors.new_ones(len(descriptors), dtype=torch.float64)
    checks.check_query_weights(query_weights, descriptors)
    return query_weights.detach().double()
