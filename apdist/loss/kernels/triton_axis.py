"""What the Triton kernels share: the axis of bins, and the blocks that hold more than negatives.

Shapes: n images, b rows of this worker, M bins, r x c a tile, L x O pairs; a
block is tiles.BLOCK images on each side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# Triton compiles once more for each of these that is a multiple of 16: for any ragged tile.
_RAGGED = {
    *("num_rows", "num_columns", "num_images", "num_blocks"),
    *("first_row", "first_column", "first_own", "programs_of_rows"),
}

CONTRACTED: dict[str, Any] = {"enable_fp_fusion": True}
"""An option of every launch: products and sums in one instruction, which Triton 3.10 no longer does
unasked. It halves the work on a score, and without it the bits would depend on the version."""


def kernel(function: Callable[..., Any]) -> Any:
    """``function`` for the GPU; for Triton's interpreter where TRITON_INTERPRET is set."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return triton.jit(function, do_not_specialize=[name for name in names if name in _RAGGED])


@kernel
def places_of(
    scores: tl.tensor, high: tl.tensor, scale: tl.tensor, num_bins: tl.constexpr
) -> tl.tensor:
    """Place of each score on the axis of bins: 0 at the first centre, M - 1 at the last.

    NaN is at 0: descriptors are checked after all kernels, which must bear it till then.
    """
    places = (high - scores) * scale
    return tl.where(places > 0, tl.minimum(places, num_bins - 1.0), 0.0)


@kernel
def codes_of(places: tl.tensor) -> tl.tensor:
    """Interval u of a place, plus 1; 0 at the first centre and M at the last, of slope 0."""
    return places.to(tl.int32) + (places > 0).to(tl.int32)


@kernel
def relation(
    labels: tl.tensor,
    ignore: tl.tensor,
    lines: tl.tensor,
    others: tl.tensor,
    num_images: tl.tensor,
) -> tl.tensor:
    """(L, O) whether images are of one class; whether they are junk to each other."""
    line_known, other_known = lines < num_images, others < num_images
    line_labels = tl.load(labels + lines, mask=line_known, other=0)[:, None]
    other_labels = tl.load(labels + others, mask=other_known, other=0)[None, :]
    line_ids = tl.load(ignore + lines, mask=line_known, other=-1)[:, None]
    other_ids = tl.load(ignore + others, mask=other_known, other=-1)[None, :]
    same = line_labels == other_labels
    return same, (line_ids == other_ids) & (line_ids >= 0) & (line_labels != other_labels)


@kernel
def mark_related(
    labels: tl.tensor,
    ignore: tl.tensor,
    row_ranges: tl.tensor,
    column_ranges: tl.tensor,
    related: tl.tensor,
    first_row: tl.tensor,
    num_rows: tl.tensor,
    num_images: tl.tensor,
    num_blocks: tl.tensor,
    has_ranges: tl.constexpr,
    has_junk: tl.constexpr,
    side: tl.constexpr,
) -> None:
    """Mark each block of pairs in which two images share a class or an id of junk.

    Positives, junk and the image itself lie in marked blocks only, and few blocks are marked where
    the images of a class are neighbours. A marked block costs time, it need not have such a pair.

    Args:
        labels: (n,) integers, equal for equal classes.
        ignore: (n,) int32, equal for equal ids of junk; negative for none.
        row_ranges: (blocks of the b rows, 2) int32 smallest and largest label; where
            ``has_ranges``, blocks whose labels cannot meet are not looked into.
        column_ranges: (blocks of the n images, 2) int32 likewise.
        related: (blocks of the b rows, blocks of the n images) uint8, written.
        first_row: image of the first of the b rows.
        num_rows: b.
        num_images: n.
        num_blocks: blocks of the n images.
        has_ranges: whether the ranges are there; not with ``has_junk``.
        has_junk: whether ``ignore`` is looked at.
        side: BLOCK.
    """
    row_block, column_block = tl.program_id(1), tl.program_id(0)
    meet = tl.full((), 1, tl.int32)
    if has_ranges:
        row_range, column_range = row_ranges + 2 * row_block, column_ranges + 2 * column_block
        above = tl.load(row_range) <= tl.load(column_range + 1)
        meet = (above & (tl.load(column_range) <= tl.load(row_range + 1))).to(tl.int32)
    marked = meet
    if meet > 0:
        # Beyond the end the last image is looked at again: it is in the block anyway.
        rows = tl.minimum(row_block * side + tl.arange(0, side), num_rows - 1) + first_row
        columns = tl.minimum(column_block * side + tl.arange(0, side), num_images - 1)
        found = tl.load(labels + rows)[:, None] == tl.load(labels + columns)[None, :]
        if has_junk:
            ids = tl.load(ignore + rows)[:, None]
            found = found | ((ids == tl.load(ignore + columns)[None, :]) & (ids >= 0))
        marked = tl.max(tl.max(found.to(tl.int32), axis=1), axis=0)
    tl.store(related + row_block * num_blocks + column_block, marked.to(tl.uint8))
