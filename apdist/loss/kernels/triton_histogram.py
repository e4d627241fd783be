"""The work on one tile by Triton kernels, on a GPU.

Shapes: n images, b rows of this worker, M bins, r x c a tile.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.config.loss import Bins
from apdist.loss.batch import Batch
from apdist.loss.kernels import triton_binning as binning
from apdist.loss.kernels import triton_sloping as sloping
from apdist.loss.kernels.products import products_of as products_of
from apdist.loss.kernels.triton_axis import CONTRACTED, mark_related
from apdist.loss.kernels.triton_tables import tables_of_ap
from apdist.loss.precision import Tables, bin_width
from apdist.loss.precision import tables_of as tables_of_any
from apdist.loss.tiles import BLOCK, Histograms, Pairs, Tile, within

ROWS = {"rows_at_once": 1, "columns_at_once": 128, "columns_a_sum": 4096, "num_warps": 1}
"""`bin_rows`: a warp has a row, and four neighbours in it a lane."""

COLUMNS = {
    "rows_at_once": 32,
    "loads_at_once": 8,
    "columns_at_once": 16,
    "rows_a_sum": 16384,
    "num_warps": 4,
}
"""`bin_columns`: 16 columns are two sectors of memory, and make enough programs of a tile."""

RELATED = {"lines_at_once": 8, "side": BLOCK, "num_warps": 4}
SLOPES = {"rows_at_once": 2, "columns_at_once": BLOCK, "side": BLOCK, "num_warps": 1}

# Sums of so many bins fit in the registers beside what is loaded.
_BINS_AT_ONCE = 24

# To ask a GPU which of so few blocks are marked takes longer than a kernel that finds nothing.
_FEW_BLOCKS = 4096


class Binning:
    """Histograms of the own ``rows``, tile by tile."""

    def __init__(self, batch: Batch, rows: slice) -> None:
        self.batch, self.bins, self.rows = batch, batch.options, rows

    # What follows is wanted with the first tile: while the GPU multiplies, not before.

    @functools.cached_property
    def related(self) -> Related:
        """The blocks with more than negatives."""
        return Related.of(self.batch.pairs, self.rows)

    @functools.cached_property
    def tables(self) -> Histograms:
        """All zero at first; one piece of memory, which takes one launch."""
        size, num_bins = self.rows.stop - self.rows.start, self.bins.num_bins
        room = self.batch.pairs.labels.new_zeros((3, size, num_bins))  # int64
        positives, everything = room[:2].view(torch.float64)
        counts = room[2].view(-1)[: size * (num_bins - 1)].view(size, num_bins - 1)
        squares = everything.new_empty(size, dtype=torch.float32)
        return Histograms(positives, everything, counts, squares)

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c); writes ``codes`` unless that is (0, 0)."""
        num_rows, num_columns = tile.shape
        shape = (num_rows, num_columns, scores.stride(0))
        parts, bins_at_once = bins_of_programs(self.bins.num_bins)
        axis: dict[str, Any] = {**_axis(self.bins), "bins_at_once": bins_at_once}
        everything = self.tables.everything
        with torch.cuda.device_of(scores):
            binning.bin_rows[_blocks(num_rows, ROWS["rows_at_once"]), parts](
                *(scores, codes, everything[within(tile.rows, self.rows)], *shape),
                **axis,
                keep_codes=codes.numel() > 0,
                **ROWS,
                **CONTRACTED,
            )
            # On one stream a launch waits for the one before: no two add to a row at a time.
            if tile.mirrored:
                binning.bin_columns[_blocks(num_columns, COLUMNS["columns_at_once"]), parts](
                    *(scores, everything[within(tile.columns, self.rows)], *shape),
                    **axis,
                    **COLUMNS,
                    **CONTRACTED,
                )
            if self.related.any_in(tile):
                self._add_related(scores, tile)

    def _add_related(self, scores: Tensor, tile: Tile) -> None:
        tables, (num_rows, num_columns) = self.tables, tile.shape
        of_rows = _blocks(num_rows, RELATED["lines_at_once"])
        of_columns = _blocks(num_columns, RELATED["lines_at_once"]) if tile.mirrored else 0
        binning.bin_related[(of_rows + of_columns,)](
            *(scores, *self.related.tensors),
            *(tables.everything, tables.positives, tables.positive_counts, tables.squares),
            *(num_rows, num_columns, scores.stride(0)),
            *self.related.place(tile),
            **_axis(self.bins),
            programs_of_rows=of_rows,
            padded_bins=power_of_two(self.bins.num_bins),
            include_self=self.related.include_self,
            **RELATED,
            **CONTRACTED,
        )

    def histograms(self) -> Histograms:
        """What all tiles added up to."""
        return self.tables


class Sloping:
    """Derivatives by the similarities, from the ``slopes`` (2, M+1, n) of every row."""

    def __init__(self, batch: Batch, rows: slice, slopes: Tensor) -> None:
        self.bins, self.related = batch.options, Related.of(batch.pairs, rows)
        self.halves = batch.options.precision == "bf16x3"
        self.room: Tensor | None = None
        self.slopes = slopes

    def derivative(self, scores: Tensor, codes: Tensor, tile: Tile) -> Tensor:
        """(r, c) dL/ds_ij + dL/ds_ji in place of the ``scores``; or (2, r, c) as halves."""
        num_rows, num_columns = tile.shape
        grid = (
            _blocks(num_columns, SLOPES["columns_at_once"]),
            _blocks(num_rows, SLOPES["rows_at_once"]),
        )
        change = self._room_for(scores) if self.halves else scores
        with torch.cuda.device_of(scores):
            sloping.slope_block[grid](
                *(scores, codes, *(change if self.halves else (change, change))),
                *self.related.tensors,
                self.slopes,
                *(num_rows, num_columns, scores.stride(0)),
                *self.related.place(tile),
                **_axis(self.bins),
                has_codes=codes.numel() > 0,
                halves=self.halves,
                **SLOPES,
                **CONTRACTED,
            )
        return change

    def _room_for(self, scores: Tensor) -> Tensor:
        """(2, r, c) bfloat16, each half laid out like the ``scores``."""
        num_rows, num_columns = scores.shape
        size = num_rows * scores.stride(0)
        if self.room is None or self.room.numel() < 2 * size:
            self.room = scores.new_empty(2 * size, dtype=torch.bfloat16)
        return self.room.as_strided((2, num_rows, num_columns), (size, scores.stride(0), 1))


def tables_of(histograms: Histograms, batch: Batch, rows: slice) -> Tables:
    """Tables of the own ``rows``."""
    return (tables_of_ap if batch.options.variant == "ap" else tables_of_any)(
        histograms, batch, rows
    )


class Related:
    """Labels, ids of junk, and the blocks of pairs in which they matter, for the own ``rows``.

    A byte for each block of BLOCK x BLOCK pairs: 64 bytes a row of a million images.
    """

    def __init__(self, pairs: Pairs, rows: slice) -> None:
        # The kernels count in elements: without strides.
        labels, ignore = pairs.labels.contiguous(), pairs.ignore.contiguous()
        self.include_self, self.first_own = pairs.include_self, rows.start
        num_rows, num_images = rows.stop - rows.start, len(labels)
        self.num_images, self.num_blocks = num_images, _blocks(num_images, BLOCK)
        num_row_blocks = _blocks(num_rows, BLOCK)
        marks = labels.new_empty((num_row_blocks, self.num_blocks), dtype=torch.uint8)
        if marks.numel() > 0:
            # To look into few blocks takes less time than to find out which.
            is_small = marks.numel() <= _FEW_BLOCKS
            # Half of a label's digits: those that only look equal cost time, nothing else.
            short_labels = labels if is_small else labels.int()
            ids = ignore.clamp(-1, 2**31 - 1).int() if pairs.has_junk else marks
            has_ranges = not is_small and not pairs.has_junk
            row_ranges = column_ranges = marks
            if has_ranges:
                column_ranges = _ranges(short_labels)
                every = num_rows == num_images
                row_ranges = column_ranges if every else _ranges(short_labels[rows])
            with torch.cuda.device_of(labels):
                mark_related[self.num_blocks, num_row_blocks](
                    *(short_labels, ids, row_ranges, column_ranges, marks),
                    *(rows.start, num_rows, num_images, self.num_blocks),
                    has_ranges=has_ranges,
                    has_junk=pairs.has_junk,
                    side=BLOCK,
                    **CONTRACTED,
                )
        self.tensors = (labels, ignore, marks)
        self._seen: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, pairs: Pairs, rows: slice) -> Related:
        """The blocks of ``pairs``, looked for once."""
        key = (cls, rows.start, rows.stop)
        if key not in pairs.found:
            pairs.found[key] = cls(pairs, rows)
        found: Related = pairs.found[key]
        return found

    def any_in(self, tile: Tile) -> bool:
        """Whether a block of the ``tile`` is marked."""
        marks = self.tensors[2]
        if marks.numel() <= _FEW_BLOCKS:
            return True
        if self._seen is None:
            self._seen = marks.cpu().numpy()
        rows = within(tile.rows, slice(self.first_own, 0))
        top, left = rows.start // BLOCK, tile.columns.start // BLOCK
        bottom, right = _blocks(rows.stop, BLOCK), _blocks(tile.columns.stop, BLOCK)
        return bool(self._seen[top:bottom, left:right].any())

    def place(self, tile: Tile) -> tuple[int, int, int, int, int]:
        """Where a tile lies, as the kernels take it."""
        return (
            *(tile.rows.start, tile.columns.start, self.first_own),
            *(self.num_blocks, self.num_images),
        )


def _ranges(labels: Tensor) -> Tensor:
    """(blocks, 2) smallest and largest of the ``labels`` (n,) of each block."""
    padded = labels.new_empty(_blocks(len(labels), BLOCK) * BLOCK)
    padded[: len(labels)], padded[len(labels) :] = labels, labels[-1]
    return torch.stack(padded.view(-1, BLOCK).aminmax(dim=1), dim=1)


def _axis(bins: Bins) -> dict[str, Any]:
    return {"high": bins.max_score, "scale": 1 / bin_width(bins), "num_bins": bins.num_bins}


def bins_of_programs(num_bins: int) -> tuple[int, int]:
    """Programs that share the bins, and bins of each; the last bin needs no scores."""
    parts = _blocks(num_bins - 1, _BINS_AT_ONCE)
    return parts, _blocks(num_bins - 1, parts)


def _blocks(size: int, at_once: int) -> int:
    return -(-size // at_once)


def power_of_two(size: int) -> int:
    """The smallest that is at least ``size``."""
    return 1 << (size - 1).bit_length()
