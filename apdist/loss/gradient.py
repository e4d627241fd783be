"""A loss and its gradient by the descriptors; the listwise one in two passes over tiles.

    first_pass    tiles of similarities -> histograms of the own rows -> average precision, slopes
    second_pass   the tiles again, each score replaced by the slopes of its two images, times
                  descriptors -> gradient

No more than one tile of similarities exists at a time. The second pass computes it again, unless
the first could keep one byte a pair: the interval between two bin centres that its score is in. It
begins with the tile that the first pass ended with, whose scores are still there.

A GPU is given all its work before anything is read from it: one wait for a loss and its gradient.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size, M bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from apdist.config.loss import LossOptions
from apdist.loss.batch import Batch, check_lengths, checked_batch, device_of
from apdist.loss.batch_loss import BatchLoss, score_whole_batch
from apdist.loss.kernels.backends import kernels_of
from apdist.loss.matryoshka import Matryoshka
from apdist.loss.precision import NUM_SCALARS
from apdist.loss.results import Diagnostics, RowScores, warn_of_no_positives
from apdist.loss.tiles import (
    Codes,
    Histograms,
    Tile,
    Tiling,
    new_buffer,
    new_codes,
    tiles_of,
    tiling_of,
    within,
)
from apdist.loss.weighted import WeightedSum


def score_own_rows(
    loss: BatchLoss,
    descriptors: Tensor,
    labels: Tensor,
    rows: slice,
    *,
    sum_over_workers: Callable[[Tensor], Tensor],
    gather_rows: Callable[[Tensor], Tensor],
    ignore: Tensor | None = None,
    query_weights: Tensor | None = None,
) -> RowScores:
    """Loss of the global batch and its gradient by the descriptors of the own ``rows``, no graph.

    The listwise loss shares the work between the workers, and calls both collectives exactly once,
    in this order, whatever the batch. Any other is evaluated by each worker on the whole batch. In
    a `WeightedSum` each term is computed as it would be alone, in a `Matryoshka` each part, one
    after the other.

    Args:
        loss: an `AveragePrecisionLoss`, or any function of (descriptors, labels).
        descriptors: (n, d) gathered from all workers, the same on each.
        labels: (n,) gathered likewise.
        rows: this worker's part of the n rows; may be empty.
        sum_over_workers: adds a small float64 tensor over the workers.
        gather_rows: joins the workers' (b, ...) tensors to (n, ...) in the order of their rows.
        ignore: (n,) ids of junk as in `average_precision_loss`, gathered; for the listwise loss.
        query_weights: (n,) likewise.

    Raises:
        ValueError: as `average_precision_loss`, on all workers alike; backend "dense"; ``ignore``
            or ``query_weights`` with a loss that does not know them.
    """
    if isinstance(loss, WeightedSum | Matryoshka):
        score_part = partial(
            score_own_rows,
            labels=labels,
            rows=rows,
            sum_over_workers=sum_over_workers,
            gather_rows=gather_rows,
            ignore=ignore,
            query_weights=query_weights,
        )
        if isinstance(loss, Matryoshka):
            device_of(descriptors)
            return loss.score(descriptors, checked_rows(rows, len(descriptors)), score_part)
        return loss.score(partial(score_part, descriptors=descriptors))
    options = getattr(loss, "options", None)
    if not isinstance(options, LossOptions):
        if ignore is not None or query_weights is not None:
            raise ValueError(
                "only the average-precision loss knows ignore and query_weights; leave them out"
            )
        return score_whole_batch(loss, descriptors, labels, checked_rows(rows, len(descriptors)))
    if options.backend == "dense":
        raise ValueError('backend "dense" serves one process; use "tiled" or "auto" for rows')
    with torch.no_grad(), torch.autocast(device_of(descriptors), enabled=False):
        batch = checked_batch(descriptors, labels, ignore, query_weights, options)
        rows = checked_rows(rows, len(descriptors))
        # Collectives want their numbers side by side.
        return score_batch_rows(
            batch, rows, sum_over_workers, lambda slopes: gather_rows(slopes.contiguous())
        )


def checked_rows(rows: slice, num_images: int) -> slice:
    """``rows`` with both ends given.

    Raises:
        ValueError: the slice has a step or does not lie within the ``num_images`` rows.
    """
    start = 0 if rows.start is None else rows.start
    stop = num_images if rows.stop is None else rows.stop
    if rows.step not in (None, 1) or not 0 <= start <= stop <= num_images:
        raise ValueError(
            f"rows must be a contiguous part of the {num_images} images, got {rows}; "
            "pass slice(first, last + 1) of this worker"
        )
    return slice(start, stop)


def score_batch_rows(
    batch: Batch,
    rows: slice,
    sum_over_workers: Callable[[Tensor], Tensor],
    gather_rows: Callable[[Tensor], Tensor],
) -> RowScores:
    """The listwise part of `score_own_rows`, for a ``batch`` that has been checked.

    Raises:
        ValueError: a descriptor is not finite or not of unit length.
    """
    found = first_pass(batch, rows, sum_over_workers)
    slopes = gather_rows(interval_slopes(found.slopes_by_code))  # (n, 2, M-1)
    slopes_by_code = found.slopes_by_code
    if len(slopes) > slopes_by_code.shape[2]:  # other workers have rows, too
        slopes_by_code = zero_slopes(batch, len(slopes))
        interval_slopes(slopes_by_code).copy_(slopes)
    gradient = second_pass(batch, rows, slopes_by_code, found.cache)
    loss, diagnostics = read_sums(batch, found.sums)
    return RowScores(loss, found.average_precision, gradient, diagnostics, listwise_loss=loss)


@dataclass(frozen=True)
class ScoreCache:
    """What the first pass keeps of the scores, so that the second need not compute all again."""

    tiling: Tiling
    """How the similarity matrix was cut."""

    tiles: list[Tile]
    """Its tiles, in the order of the first pass."""

    codes: Codes
    """One byte a pair: the interval between two bin centres that its score is in; or nothing."""

    buffer: Tensor
    """Room for one tile, with the scores of the last one."""


@dataclass(frozen=True)
class FirstPass:
    """What the loss and its gradient are made of."""

    sums: Tensor
    """Of `Tables`, global."""

    average_precision: Tensor
    """(b,) float64, NaN where undefined."""

    slopes_by_code: Tensor
    """(2, M+1, b) derivative of the loss by the score of a negative, of a positive, by code."""

    cache: ScoreCache


def first_pass(
    batch: Batch, rows: slice, sum_over_workers: Callable[[Tensor], Tensor]
) -> FirstPass:
    """Sums over the global batch, and the slopes of the loss by the scores of the own ``rows``."""
    histograms, cache = cumulative_histograms(batch, rows)
    tables = kernels_of(batch.backend).tables_of(histograms, batch, rows)
    sums = sum_over_workers(tables.sums)
    # Weights of mean 1 divided by the number of queries: the same as by their sum. Without a query
    # that counts, all are 0. In float64: weights may be of any size.
    scale = tables.counted / sums[1].clamp(min=torch.finfo(sums.dtype).tiny)
    slopes_by_code = zero_slopes(batch, len(scale))
    torch.mul(scale[:, None, None], tables.slopes, out=interval_slopes(slopes_by_code))
    return FirstPass(sums, tables.averages, slopes_by_code, cache)


def zero_slopes(batch: Batch, num_rows: int) -> Tensor:
    """(2, M+1, r) zeros by code: the codes 0 and M, outside the centres, keep slope 0."""
    return batch.descriptors.new_zeros(2, batch.options.num_bins + 1, num_rows)


def interval_slopes(slopes_by_code: Tensor) -> Tensor:
    """(r, 2, M-1) view of ``slopes_by_code`` (2, M+1, r): of intervals between two centres."""
    return slopes_by_code[:, 1:-1].permute(2, 0, 1)


def cumulative_histograms(batch: Batch, rows: slice) -> tuple[Histograms, ScoreCache]:
    """Histograms of the scores of the own ``rows`` with all images, and what is kept of these."""
    descriptors, options = batch.descriptors, batch.options
    tiling = tiling_of(descriptors.shape, descriptors.device, batch.backend, options.tile_size)
    tiles = tiles_of(len(descriptors), rows, tiling)
    codes = new_codes(tiles, tiling, options, descriptors.device)
    kernels = kernels_of(batch.backend)
    binning = kernels.Binning(batch, rows)
    buffer = new_buffer(tiles, tiling, descriptors.dtype, descriptors.device)
    with kernels.products_of(descriptors, options.precision) as products:
        for tile, tile_codes in zip(tiles, codes, strict=True):
            scores = products.scores(tile, tiling.view(buffer, tile))
            binning.add(scores, tile_codes, tile)
    return binning.histograms(), ScoreCache(tiling, tiles, codes, buffer)


def second_pass(batch: Batch, rows: slice, slopes: Tensor, cache: ScoreCache) -> Tensor:
    """(b, d) gradient by the descriptors of the own ``rows``, from the slopes of every row.

    Args:
        batch: of the first pass.
        rows: of the first pass.
        slopes: (2, M+1, n) derivative of the loss by the score of a negative, of a positive of each
            query, by code.
        cache: of the own first pass; its buffer is written to.
    """
    descriptors = batch.descriptors
    kernels = kernels_of(batch.backend)
    sloping = kernels.Sloping(batch, rows, slopes)
    gradient = torch.zeros_like(descriptors[rows])
    with kernels.products_of(descriptors, batch.options.precision) as products:
        pairs = list(zip(cache.tiles, cache.codes, strict=True))
        for number, (tile, tile_codes) in enumerate(pairs[-1:] + pairs[:-1]):
            scores = cache.tiling.view(cache.buffer, tile)
            if number > 0 and tile_codes.numel() == 0:
                products.scores(tile, scores)
            change = sloping.derivative(scores, tile_codes, tile)
            products.add(change, tile.columns, gradient[within(tile.rows, rows)])
            if tile.mirrored:
                products.add(change.mT, tile.rows, gradient[within(tile.columns, rows)])
    return gradient


def read_sums(batch: Batch, sums: Tensor) -> tuple[Tensor, Diagnostics]:
    """() float64 loss, and its by-products, from the global ``sums``: waits for the device.

    Raises:
        ValueError: a descriptor is not finite or not of unit length, if that was left to check.
    """
    numbers = sums[:NUM_SCALARS].tolist()
    total, weight, num_queries, num_lone, num_positives, num_wrong, num_off_length = numbers
    if num_off_length > 0:
        check_lengths(batch.descriptors, batch.tolerance)
    if weight == 0:
        warn_of_no_positives(len(batch.descriptors))
    positive, negative = sums[NUM_SCALARS:].chunk(2)
    diagnostics = Diagnostics(
        num_queries=round(num_queries),
        num_lone_queries=round(num_lone),
        positive_histogram=positive,
        negative_histogram=negative,
        wrong_sign_share=num_wrong / num_positives if num_positives > 0 else 0.0,
    )
    return sums.new_full((), 1 - total / weight if weight > 0 else 0.0), diagnostics
