"""Triton kernel of the second pass: the derivatives by the scores of a tile.

Shapes: n images, M bins, r x c a tile; a program has L x O pairs.
"""

from __future__ import annotations

import triton.language as tl

from apdist.loss.kernels.triton_axis import codes_of, kernel, places_of, relation


@kernel
def _store(
    change: tl.tensor,
    low_change: tl.tensor,
    at: tl.tensor,
    values: tl.tensor,
    inside: tl.tensor,
    masked: tl.constexpr,
    halves: tl.constexpr,
) -> None:
    """Store the derivatives, as float32 or as a bfloat16 and what it leaves over."""
    if not halves:
        if masked:
            tl.store(change + at, values, mask=inside)
        else:
            tl.store(change + at, values)
    else:
        upper = values.to(tl.bfloat16)
        lower = (values - upper.to(tl.float32)).to(tl.bfloat16)
        if masked:
            tl.store(change + at, upper, mask=inside)
            tl.store(low_change + at, lower, mask=inside)
        else:
            tl.store(change + at, upper)
            tl.store(low_change + at, lower)


@kernel
def slope_block(
    scores: tl.tensor,
    codes: tl.tensor,
    change: tl.tensor,
    low_change: tl.tensor,
    labels: tl.tensor,
    ignore: tl.tensor,
    related: tl.tensor,
    slopes: tl.tensor,
    num_rows: tl.tensor,
    num_columns: tl.tensor,
    stride: tl.tensor,
    first_row: tl.tensor,
    first_column: tl.tensor,
    first_own: tl.tensor,
    num_blocks: tl.tensor,
    num_images: tl.tensor,
    high: tl.tensor,
    scale: tl.tensor,
    num_bins: tl.constexpr,
    has_codes: tl.constexpr,
    halves: tl.constexpr,
    rows_at_once: tl.constexpr,
    columns_at_once: tl.constexpr,
    side: tl.constexpr,
) -> None:
    """Write the sum of both queries' slopes for each pair of a tile; grid: columns, rows.

    A block without positives, junk or the image itself needs no labels, and a whole one no masks.

    Args:
        scores: (r, c) float32 of the tile; not read where ``has_codes``.
        codes: (r, c) uint8 laid out like the scores; read where ``has_codes``.
        change: (r, c) laid out like the scores, written; may be the scores.
        low_change: (r, c) bfloat16; written where ``halves``, ``change`` then being bfloat16.
        labels: (n,) int64 classes.
        ignore: (n,) int64 ids of junk.
        related: the blocks that `mark_related` marked.
        slopes: (2, M+1, n) float32 of a negative and of a positive of each query, by code.
        num_rows: r.
        num_columns: c.
        stride: between rows, a multiple of 16.
        first_row: image of row 0.
        first_column: image of column 0.
        first_own: image of the first of the rows of this worker.
        num_blocks: blocks of the n images.
        num_images: n.
        high: score of the first centre.
        scale: bins per unit of score.
        num_bins: M.
        has_codes: whether the codes are known.
        halves: whether two bfloat16 are written.
        rows_at_once: L.
        columns_at_once: O.
        side: BLOCK.
    """
    top, left = tl.program_id(1) * rows_at_once, tl.program_id(0) * columns_at_once
    rows, columns = top + tl.arange(0, rows_at_once), left + tl.arange(0, columns_at_once)
    at = rows[:, None].to(tl.int64) * stride + columns[None, :]
    block = (first_row - first_own + top) // side * num_blocks + (first_column + left) // side
    whole = (top + rows_at_once <= num_rows) & (left + columns_at_once <= num_columns)
    inside = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    images, other_images = first_row + rows, first_column + columns
    # Lanes of a warp are neighbours, mostly of one code: with the image last they read neighbours.
    if whole & (tl.load(related + block) == 0):
        if has_codes:
            intervals = tl.load(codes + at).to(tl.int32)
        else:
            intervals = codes_of(places_of(tl.load(scores + at), high, scale, num_bins))
        table = slopes + intervals.to(tl.int64) * num_images
        own = tl.load(table + images[:, None])
        values = own + tl.load(table + other_images[None, :])
        _store(change, low_change, at, values, inside, False, halves)
    else:
        if has_codes:
            intervals = tl.load(codes + at, mask=inside, other=0).to(tl.int32)
        else:
            loaded = tl.load(scores + at, mask=inside, other=0.0)
            intervals = codes_of(places_of(loaded, high, scale, num_bins))
        same, junk = relation(labels, ignore, images, other_images, num_images)
        # An image's similarity with itself is a constant, listed or not.
        sloped = inside & ~junk & (images[:, None] != other_images[None, :])
        table = slopes + (same.to(tl.int64) * (num_bins + 1) + intervals) * num_images
        own = tl.load(table + images[:, None], mask=sloped, other=0.0)
        values = own + tl.load(table + other_images[None, :], mask=sloped, other=0.0)
        _store(change, low_change, at, values, inside, True, halves)
