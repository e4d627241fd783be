"""Triton kernels of the two passes over a tile; imported only when first used.

A program owns some lines of the tile, which are its rows or, for the transpose that a mirrored tile
also stands for, its columns. It alone adds to their histograms and goes over the scores in a fixed
order: there are no atomics, and the same batch gives the same bits.

Shapes: a tile has l lines with o scores each, of which a program takes L x O at a time; n images,
b rows of this worker, M bins, padded to B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# Triton compiles once more for each of these that is a multiple of 16: for any ragged tile.
_RAGGED = ("num_lines", "num_others", "first_line", "first_other", "num_images")


def kernel(function: Callable[..., Any]) -> Any:
    """``function`` for the GPU; for Triton's interpreter where TRITON_INTERPRET is set."""
    return triton.jit(function, do_not_specialize=_RAGGED)


@kernel
def _places(
    scores: tl.tensor, high: tl.tensor, scale: tl.tensor, num_bins: tl.constexpr
) -> tl.tensor:
    """Place of each score on the axis of bins: 0 at the first centre, M - 1 at the last."""
    return tl.minimum(tl.maximum((high - scores) * scale, 0.0), num_bins - 1.0)


@kernel
def _codes(places: tl.tensor) -> tl.tensor:
    """Interval u of a place, plus 1; 0 at the first centre and M at the last, of slope 0."""
    return places.to(tl.int32) + (places > 0).to(tl.int32)


@kernel
def _relation(
    labels: tl.tensor,
    ignore: tl.tensor,
    lines: tl.tensor,
    others: tl.tensor,
    num_images: tl.tensor,
    include_self: tl.constexpr,
) -> tl.tensor:
    """(L, O) whether the pairs of the images ``lines`` and ``others`` count; of the same class."""
    line_known, other_known = lines < num_images, others < num_images
    line_labels = tl.load(labels + lines, mask=line_known, other=0)[:, None]
    other_labels = tl.load(labels + others, mask=other_known, other=0)[None, :]
    line_ids = tl.load(ignore + lines, mask=line_known, other=-1)[:, None]
    other_ids = tl.load(ignore + others, mask=other_known, other=-1)[None, :]
    same = line_labels == other_labels
    counts = same | (line_ids != other_ids) | (line_ids < 0)
    if not include_self:
        counts = counts & (lines[:, None] != others[None, :])
    return counts, same


@kernel
def _shares(
    places: tl.tensor, listed: tl.tensor, bins: tl.tensor, num_bins: tl.constexpr
) -> tl.tensor:
    """(L, B) float32 sums of clip(u + 1 - place, 0, 1) over the listed pairs of each line."""
    # At M no bin is reached.
    reach = tl.where(listed, places, num_bins * 1.0)
    # Outside the places in use, an entry is 0 or the number of pairs. Descriptors of any length
    # have most of their scores in a few bins, so that this saves most of the work.
    first = tl.min(reach).to(tl.int32)
    last = tl.max(tl.where(listed, places, -1.0)).to(tl.int32)
    num_pairs = tl.sum(listed.to(tl.float32), axis=1)
    sums = tl.where(bins[None, :] > last, num_pairs[:, None], 0.0)
    for u in range(first, last + 1):
        share = tl.minimum(tl.maximum(u + 1.0 - reach, 0.0), 1.0)
        sums = tl.where(bins[None, :] == u, tl.sum(share, axis=1)[:, None], sums)
    return sums


@kernel
def _counts(
    codes: tl.tensor, counted: tl.tensor, bins: tl.tensor, num_bins: tl.constexpr
) -> tl.tensor:
    """(L, B) int32 number of counted pairs by interval; those of code 0 are in none."""
    first = tl.min(tl.where(counted, codes, num_bins + 1))
    last = tl.max(tl.where(counted, codes, 0))
    numbers = tl.zeros((codes.shape[0], bins.shape[0]), tl.int32)
    for code in range(first, last + 1):
        number = tl.sum((counted & (codes == code)).to(tl.int32), axis=1)
        numbers = tl.where(bins[None, :] == code - 1, number[:, None], numbers)
    return numbers


@kernel
def _add(
    table: tl.tensor,
    sums: tl.tensor,
    lines: tl.tensor,
    num_lines: tl.tensor,
    bins: tl.tensor,
    width: tl.constexpr,
) -> tl.tensor:
    """Add ``sums`` (L, B) to the rows ``lines`` of a ``table`` (l, width)."""
    at = table + lines[:, None].to(tl.int64) * width + bins[None, :]
    owned = (lines < num_lines)[:, None] & (bins < width)[None, :]
    tl.store(at, tl.load(at, mask=owned) + sums, mask=owned)


@kernel
def bin_lines(
    scores: tl.tensor,
    codes: tl.tensor,
    labels: tl.tensor,
    ignore: tl.tensor,
    everything: tl.tensor,
    positives: tl.tensor,
    counts: tl.tensor,
    num_lines: tl.tensor,
    num_others: tl.tensor,
    first_line: tl.tensor,
    first_other: tl.tensor,
    line_stride: tl.tensor,
    other_stride: tl.tensor,
    num_images: tl.tensor,
    high: tl.tensor,
    scale: tl.tensor,
    num_bins: tl.constexpr,
    padded_bins: tl.constexpr,
    include_self: tl.constexpr,
    keep_codes: tl.constexpr,
    lines_at_once: tl.constexpr,
    others_at_once: tl.constexpr,
) -> None:
    """Add the ``scores`` of a tile's lines to their cumulative histograms; grid: blocks of lines.

    Args:
        scores: of the tile; line i has its j-th at i * line_stride + j * other_stride.
        codes: uint8 laid out like the scores, written if ``keep_codes``.
        labels: (n,) int64 classes.
        ignore: (n,) int64 ids of junk.
        everything: (l, M) float64, added to.
        positives: (l, M) float64, added to.
        counts: (l, M-1) int64 positives by interval, added to.
        num_lines: l.
        num_others: o.
        first_line: image of line 0.
        first_other: image of each line's score 0.
        line_stride: between lines.
        other_stride: between the scores of one line.
        num_images: n.
        high: score of the first centre.
        scale: bins per unit of score.
        num_bins: M.
        padded_bins: B, a power of two.
        include_self: whether an image is a positive of itself.
        keep_codes: whether codes are written.
        lines_at_once: L.
        others_at_once: O.
    """
    lines = tl.program_id(0) * lines_at_once + tl.arange(0, lines_at_once)
    bins = tl.arange(0, padded_bins)
    # A million float32 additions lose the fractions: float32 holds sums of O shares of at most 1,
    # float64 the sum of those.
    everything_sums = tl.zeros((lines_at_once, padded_bins), tl.float64)
    positive_sums = tl.zeros((lines_at_once, padded_bins), tl.float64)
    count_sums = tl.zeros((lines_at_once, padded_bins), tl.int32)
    for start in range(0, num_others, others_at_once):
        others = start + tl.arange(0, others_at_once)
        inside = (lines < num_lines)[:, None] & (others < num_others)[None, :]
        # A tile may have more than 2**31 scores.
        at = lines[:, None].to(tl.int64) * line_stride + others[None, :].to(tl.int64) * other_stride
        places = _places(tl.load(scores + at, mask=inside, other=0.0), high, scale, num_bins)
        intervals = _codes(places)
        if keep_codes:
            tl.store(codes + at, intervals.to(tl.uint8), mask=inside)
        images, other_images = first_line + lines, first_other + others
        listed, same = _relation(labels, ignore, images, other_images, num_images, include_self)
        listed = listed & inside
        everything_sums += _shares(places, listed, bins, num_bins).to(tl.float64)
        positive = listed & same
        # Positives are few: most blocks have none.
        if tl.max(positive.to(tl.int32)) > 0:
            positive_sums += _shares(places, positive, bins, num_bins).to(tl.float64)
            counted = positive & (images[:, None] != other_images[None, :])
            count_sums += _counts(intervals, counted, bins, num_bins)
    _add(everything, everything_sums, lines, num_lines, bins, num_bins)
    _add(positives, positive_sums, lines, num_lines, bins, num_bins)
    _add(counts, count_sums.to(tl.int64), lines, num_lines, bins, num_bins - 1)


@kernel
def slope_block(
    scores: tl.tensor,
    codes: tl.tensor,
    labels: tl.tensor,
    ignore: tl.tensor,
    slopes: tl.tensor,
    num_lines: tl.tensor,
    num_others: tl.tensor,
    first_line: tl.tensor,
    first_other: tl.tensor,
    line_stride: tl.tensor,
    num_images: tl.tensor,
    high: tl.tensor,
    scale: tl.tensor,
    num_bins: tl.constexpr,
    has_codes: tl.constexpr,
    lines_at_once: tl.constexpr,
    others_at_once: tl.constexpr,
) -> None:
    """Replace a block of ``scores`` by the slopes of both of its queries; grid: rows, columns.

    The arguments are those of `bin_lines`, the lines being the rows of the tile, and ``slopes``
    (2, M+1, n) float32 of a negative and of a positive of each query, by code; where ``has_codes``,
    ``codes`` are read instead of ``scores``.
    """
    lines = tl.program_id(0) * lines_at_once + tl.arange(0, lines_at_once)
    others = tl.program_id(1) * others_at_once + tl.arange(0, others_at_once)
    inside = (lines < num_lines)[:, None] & (others < num_others)[None, :]
    at = lines[:, None].to(tl.int64) * line_stride + others[None, :]
    if has_codes:
        intervals = tl.load(codes + at, mask=inside, other=0).to(tl.int32)
    else:
        places = _places(tl.load(scores + at, mask=inside, other=0.0), high, scale, num_bins)
        intervals = _codes(places)
    images, other_images = first_line + lines, first_other + others
    # An image's similarity with itself is a constant, listed or not.
    listed, same = _relation(labels, ignore, images, other_images, num_images, False)
    listed = listed & inside
    # Lanes of a warp are neighbours, mostly of one code: with the image last they read neighbours.
    table = slopes + (same.to(tl.int64) * (num_bins + 1) + intervals) * num_images
    own = tl.load(table + images[:, None], mask=listed, other=0.0)
    others_own = tl.load(table + other_images[None, :], mask=listed, other=0.0)
    tl.store(scores + at, own + others_own, mask=inside)
