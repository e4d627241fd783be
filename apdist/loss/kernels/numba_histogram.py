"""The work on one tile by compiled kernels, on as many threads of the CPU as torch uses.

Shapes: n images, b rows of this worker, M bins, r x c a tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from apdist.loss.batch import Batch
from apdist.loss.kernels import numba_kernels as kernels
from apdist.loss.kernels.numba_hits import find_hits, groups_of
from apdist.loss.kernels.numba_types import Axis, Groups, Hits, Slopes, Tables
from apdist.loss.kernels.products import products_of as products_of
from apdist.loss.precision import bin_width
from apdist.loss.precision import tables_of as tables_of
from apdist.loss.tiles import Histograms, Tile, within
from apdist.threads import on_threads

# Below this number of pairs, to wake another thread takes longer than the work.
_PAIRS_WORTH_A_THREAD = 2**15


class Strip(NamedTuple):
    """Rows of a tile, for one thread."""

    scores: Any
    codes: Any
    origin: tuple[int, int]
    """Where they start in the similarity matrix."""
    hits: Hits


class Binning:
    """Histograms of the own ``rows``, tile by tile, in whole numbers: exact sums."""

    def __init__(self, batch: Batch, rows: slice) -> None:
        self.rows, size, bins = rows, rows.stop - rows.start, batch.options
        self.groups, self.axis = groups_of(batch.pairs), _axis(batch)
        self.totals = Tables(
            np.zeros((bins.num_bins, size), np.int64),
            np.zeros((bins.num_bins, size), np.int64),
            np.zeros((bins.num_bins - 1, size), np.int64),
            np.zeros(size, np.int64),
        )

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c); writes ``codes`` unless that is (0, 0)."""

        def bin_strip(strip: Strip) -> Any:
            return kernels.bin_strip(
                strip.scores, strip.codes, strip.hits, self.axis, tile.mirrored
            )

        strips = _strips(scores, codes, tile, self.groups)
        mirror = within(tile.columns, self.rows)
        for strip, (row_tables, column_tables) in zip(
            strips, on_threads(bin_strip, strips), strict=True
        ):
            first = strip.origin[0] - self.rows.start
            self._add(slice(first, first + len(strip.scores)), row_tables)
            if tile.mirrored:
                self._add(mirror, column_tables)

    def _add(self, rows: slice, tables: Tables) -> None:
        for total, table in zip(self.totals, tables, strict=True):
            total[..., rows] += table

    def histograms(self) -> Histograms:
        """What all tiles added up to."""
        negatives, positives, counts = (torch.from_numpy(total).T for total in self.totals[:3])
        cumulative = positives.cumsum(dim=1)
        one = int(self.axis.centres[1])
        return Histograms(
            cumulative.double() / one,
            (negatives + cumulative).double() / one,
            counts,
            torch.empty(0),
        )


class Sloping:
    """Derivatives by the similarities, from the ``slopes`` (2, M+1, n) of every row."""

    def __init__(self, batch: Batch, rows: slice, slopes: Tensor) -> None:  # noqa: ARG002
        self.groups, self.axis = groups_of(batch.pairs), _axis(batch)
        negatives, positives = slopes.numpy()
        self.slopes = Slopes(negatives, positives)

    def derivative(self, scores: Tensor, codes: Tensor, tile: Tile) -> Tensor:
        """(r, c) dL/ds_ij + dL/ds_ji in place of the ``scores``."""

        def slope_strip(strip: Strip) -> None:
            kernels.slope_strip(
                *(strip.scores, strip.codes, strip.hits, self.axis, self.slopes, strip.origin)
            )

        on_threads(slope_strip, _strips(scores, codes, tile, self.groups))
        return scores


def _axis(batch: Batch) -> Axis:
    bins, num_images = batch.options, len(batch.descriptors)
    last = bins.num_bins - 1
    real: Any
    whole: Any
    if batch.descriptors.dtype == torch.float32:
        real, whole = np.float32, np.int32
        # The largest place, and the sum of one window, must fit in 31 digits.
        digits = min(20, 30 - last.bit_length())
    else:
        real, whole = np.float64, np.int64
        # The sum over all images must fit in 63.
        digits = min(46, 62 - max(last.bit_length(), num_images.bit_length()))
    one = 2**digits
    return Axis(
        high=real(bins.max_score),
        scale=real(one / bin_width(bins)),
        smallest=real(0),
        largest=real(last * one),
        centres=np.array([u * one for u in range(bins.num_bins)], whole),
        digits=whole(digits),
        codes=np.arange(bins.num_bins + 5, dtype=whole),
    )


def _strips(scores: Tensor, codes: Tensor, tile: Tile, groups: Groups) -> list[Strip]:
    """Rows of a tile, in equal parts for the threads and none too high for a kernel's sums."""

    def strip(top: int) -> Strip:
        origin = tile.rows.start + top, tile.columns.start
        rows = slice(top, min(top + height, num_rows))
        # Found here: a thread that has to wait for Python's lock twice loses half of its time.
        hits = find_hits((rows.stop - top, num_columns), origin, groups)
        return Strip(scores_array[rows], codes_array[rows], origin, hits)

    num_rows, num_columns = tile.shape
    useful = max(1, num_rows * num_columns // _PAIRS_WORTH_A_THREAD)
    height = -(-num_rows // min(torch.get_num_threads(), useful))
    height = min(height, kernels.TERMS_AT_ONCE)
    scores_array, codes_array = scores.numpy(), codes.numpy()
    return [strip(top) for top in range(0, num_rows, height)]
