"""From the histograms of queries to average precision, its slopes and sums, in one launch.

The formulas are those of precision.py for variant "ap"; on a batch of a few thousand images, forty
small operations of torch would take longer than the matrix products.

Shapes: b queries, M bins, padded to B; a program has R queries.
"""

from __future__ import annotations

import torch
import triton.language as tl

from apdist.loss.batch import Batch
from apdist.loss.kernels.triton_axis import CONTRACTED, kernel
from apdist.loss.precision import NUM_SCALARS, Tables, bin_width, squares_of_length
from apdist.loss.tiles import Histograms

# More numbers of a program than these do not fit in its registers.
_NUMBERS_AT_ONCE = 1024


def tables_of_ap(histograms: Histograms, batch: Batch, rows: slice) -> Tables:
    """What `precision.tables_of` gives for variant "ap", the slopes in float32."""
    positives, weights = histograms.positives, batch.weights
    low, high = squares_of_length(batch.tolerance)
    num_rows, num_bins = positives.shape
    padded_bins = 1 << (num_bins - 1).bit_length()
    rows_at_once = rows_of_programs(padded_bins)
    num_programs = -(-num_rows // rows_at_once)
    averages, counted = positives.new_empty(2, num_rows)
    # In the order in which the second pass reads them.
    slopes = positives.new_empty((2, num_bins - 1, num_rows), dtype=torch.float32)
    sums = positives.new_empty((num_programs, NUM_SCALARS + 2 * num_bins))
    if num_programs > 0:
        with torch.cuda.device_of(positives):
            fill_tables[(num_programs,)](
                *(positives, histograms.everything, histograms.positive_counts),
                *(histograms.squares, positives if weights is None else weights[rows]),
                *(averages, counted, slopes, sums),
                *(num_rows, 1 / bin_width(batch.options), low, high),
                num_bins=num_bins,
                padded_bins=padded_bins,
                num_scalars=NUM_SCALARS,
                rows_at_once=rows_at_once,
                has_weights=weights is not None,
                **CONTRACTED,
            )
    return Tables(averages, counted, slopes.permute(2, 0, 1), sums.sum(dim=0))


def rows_of_programs(padded_bins: int) -> int:
    """R: queries of a program."""
    return max(1, _NUMBERS_AT_ONCE // padded_bins)


@kernel
def _ratio(numerators: tl.tensor, table: tl.tensor, at: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """``numerators`` over the entries ``at`` of a ``table``; over 1 where the entry is 0."""
    entries = tl.load(table + at, mask=inside, other=0.0)
    return numerators / tl.where(entries > 0, entries, 1.0)


@kernel
def fill_tables(
    positives: tl.tensor,
    everything: tl.tensor,
    counts: tl.tensor,
    squares: tl.tensor,
    weights: tl.tensor,
    averages: tl.tensor,
    counted: tl.tensor,
    slopes: tl.tensor,
    sums: tl.tensor,
    num_rows: tl.tensor,
    bins_a_score: tl.tensor,
    least_square: tl.tensor,
    largest_square: tl.tensor,
    num_bins: tl.constexpr,
    padded_bins: tl.constexpr,
    num_scalars: tl.constexpr,
    rows_at_once: tl.constexpr,
    has_weights: tl.constexpr,
) -> None:
    """Average precision, slopes and sums of some rows; grid: blocks of rows.

    Args:
        positives: (b, M) float64 H+, cumulative.
        everything: (b, M) float64 H, cumulative.
        counts: (b, M-1) int64 positives by interval.
        squares: (b,) float32 of the descriptors' lengths.
        weights: (b,) float64 of the queries, looked at with ``has_weights``.
        averages: (b,) float64, written; NaN without positives.
        counted: (b,) float64, written: the weights, 0 without positives.
        slopes: (2, M-1, b) float32, written: derivative of 1 - AP by the score of a negative, of
            a positive.
        sums: (blocks, num_scalars + 2 M) float64, written, in the order of precision.Tables.
        num_rows: b.
        bins_a_score: one over the width of a bin.
        least_square: of a length that will do.
        largest_square: likewise.
        num_bins: M.
        padded_bins: B.
        num_scalars: numbers before the histograms in a row of ``sums``.
        rows_at_once: R.
        has_weights: whether they differ; else each has 1.
    """
    rows = tl.program_id(0) * rows_at_once + tl.arange(0, rows_at_once)
    bins = tl.arange(0, padded_bins)
    known = rows < num_rows
    at = rows[:, None].to(tl.int64) * num_bins + bins[None, :]
    inside = known[:, None] & (bins < num_bins)[None, :]
    before, after = inside & (bins > 0)[None, :], inside & (bins < num_bins - 1)[None, :]

    cumulative = tl.load(positives + at, mask=inside, other=0.0)
    in_bin = cumulative - tl.load(positives + at - 1, mask=before, other=0.0)
    precision = _ratio(cumulative, everything, at, inside)
    share = _ratio(in_bin, everything, at, inside)
    following = tl.load(positives + at + 1, mask=after, other=0.0)
    next_precision = _ratio(following, everything, at + 1, after)

    # The last entry counts every positive: a whole number but for rounding.
    last = tl.load(positives + rows.to(tl.int64) * num_bins + num_bins - 1, mask=known, other=0.0)
    num_positives = tl.floor(last + 0.5)
    defined = num_positives > 0
    divisor = tl.where(defined, num_positives, 1.0)
    average = tl.sum(in_bin * precision, axis=1) / divisor
    tl.store(averages + rows, tl.where(defined, average, float("nan")), mask=known)
    weight = defined.to(tl.float64)
    if has_weights:
        weight = tl.where(defined, tl.load(weights + rows, mask=known, other=0.0), 0.0)
    tl.store(counted + rows, weight, mask=known)

    scale = tl.where(last > 0, bins_a_score / divisor, 0.0)[:, None]
    negative = share * precision * scale
    positive = negative - (share + precision - next_precision) * scale
    slope_at = slopes + bins[None, :].to(tl.int64) * num_rows + rows[:, None]
    tl.store(slope_at, negative.to(tl.float32), mask=after)
    positive_at = slope_at + (num_bins - 1) * num_rows.to(tl.int64)
    tl.store(positive_at, positive.to(tl.float32), mask=after)

    number_at = rows[:, None].to(tl.int64) * (num_bins - 1) + bins[None, :]
    numbers = tl.load(counts + number_at, mask=after, other=0).to(tl.float64)
    wrong = tl.where(positive > 0, numbers, 0.0)
    total = tl.load(everything + at, mask=inside, other=0.0)
    in_bin_of_all = total - tl.load(everything + at - 1, mask=before, other=0.0)

    own = sums + tl.program_id(0) * (num_scalars + 2 * num_bins)
    tl.store(own, tl.sum(weight * average, axis=0))
    tl.store(own + 1, tl.sum(weight, axis=0))
    tl.store(own + 2, tl.sum(defined.to(tl.float64), axis=0))
    tl.store(own + 3, tl.sum((known & (num_positives <= 0)).to(tl.float64), axis=0))
    tl.store(own + 4, tl.sum(tl.sum(numbers, axis=1), axis=0))
    tl.store(own + 5, tl.sum(tl.sum(wrong, axis=1), axis=0))
    square = tl.load(squares + rows, mask=known, other=1.0)
    fits = (square >= least_square) & (square <= largest_square)
    tl.store(own + 6, tl.sum((known & ~fits).to(tl.float64), axis=0))
    tl.store(own + num_scalars + bins, tl.sum(in_bin, axis=0), mask=bins < num_bins)
    negatives = tl.sum(in_bin_of_all - in_bin, axis=0)
    tl.store(own + num_scalars + num_bins + bins, negatives, mask=bins < num_bins)
