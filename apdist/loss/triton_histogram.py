"""The work on one tile by Triton kernels, on a GPU.

Shapes: n images, b rows of this worker, M bins, r x c a tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from apdist.loss import triton_kernels as kernels
from apdist.loss.options import Bins
from apdist.loss.tiles import Histograms, Pairs, Tile, within

# 128 scores of a row are four to each lane of one warp, and 8 columns side by side fill a sector of
# memory. More warps need fewer registers each, so that more are at hand while others wait.
BINNED_LINES, SLOPED_LINES, OTHERS_AT_ONCE = 8, 16, 128
BINNING_WARPS = 8


class TritonBinning:
    """Histograms of the own ``rows``, tile by tile."""

    def __init__(self, pairs: Pairs, rows: slice, bins: Bins) -> None:
        self.rows, self.bins, self.include_self = rows, bins, pairs.include_self
        self.labels, self.ignore = _plain(pairs)
        size, device = rows.stop - rows.start, pairs.labels.device
        self.everything = torch.zeros(size, bins.num_bins, dtype=torch.float64, device=device)
        self.positives = torch.zeros_like(self.everything)
        self.counts = torch.zeros(size, bins.num_bins - 1, dtype=torch.int64, device=device)

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c); writes ``codes`` unless that is (0, 0)."""
        _, width = tile.shape
        self._add_lines(scores, codes, (tile.rows, tile.columns), (width, 1), codes.numel() > 0)
        if tile.mirrored:
            # On one stream this launch waits for the first: no two add to a row at a time.
            self._add_lines(scores, codes, (tile.columns, tile.rows), (1, width), False)

    def _add_lines(
        self,
        scores: Tensor,
        codes: Tensor,
        sides: tuple[slice, slice],
        strides: tuple[int, int],
        keep_codes: bool,
    ) -> None:
        lines, others = sides
        own = within(lines, self.rows)
        num_lines = lines.stop - lines.start
        with torch.cuda.device_of(scores):
            kernels.bin_lines[(_blocks(num_lines, BINNED_LINES),)](
                scores,
                codes,
                self.labels,
                self.ignore,
                self.everything[own],
                self.positives[own],
                self.counts[own],
                num_lines,
                others.stop - others.start,
                lines.start,
                others.start,
                *strides,
                len(self.labels),
                **_axis(self.bins),
                padded_bins=power_of_two(self.bins.num_bins),
                include_self=self.include_self,
                keep_codes=keep_codes,
                lines_at_once=BINNED_LINES,
                others_at_once=OTHERS_AT_ONCE,
                num_warps=BINNING_WARPS,
            )

    def histograms(self) -> Histograms:
        """What all tiles added up to."""
        return Histograms(self.positives, self.everything, self.counts)


class TritonSloping:
    """Derivatives by the similarities, from the ``slopes`` (n, 2, M-1) of every row."""

    def __init__(self, pairs: Pairs, slopes: Tensor, bins: Bins) -> None:
        self.bins = bins
        self.labels, self.ignore = _plain(pairs)
        # Codes 0 and M, outside the centres, have slope 0.
        padded = torch.nn.functional.pad(slopes.float(), (1, 1))  # (n, 2, M+1)
        self.slopes = padded.permute(1, 2, 0).contiguous()  # (2, M+1, n)

    def derivative(self, scores: Tensor, codes: Tensor, tile: Tile) -> Tensor:
        """(r, c) dL/ds_ij + dL/ds_ji in place of the ``scores``."""
        num_rows, num_columns = tile.shape
        grid = (_blocks(num_rows, SLOPED_LINES), _blocks(num_columns, OTHERS_AT_ONCE))
        with torch.cuda.device_of(scores):
            kernels.slope_block[grid](
                scores,
                codes,
                self.labels,
                self.ignore,
                self.slopes,
                num_rows,
                num_columns,
                tile.rows.start,
                tile.columns.start,
                num_columns,
                len(self.labels),
                **_axis(self.bins),
                has_codes=codes.numel() > 0,
                lines_at_once=SLOPED_LINES,
                others_at_once=OTHERS_AT_ONCE,
            )
        return scores


def _plain(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Labels and ignore ids without strides, for the kernels count in elements."""
    return pairs.labels.contiguous(), pairs.ignore.contiguous()


def _axis(bins: Bins) -> dict[str, Any]:
    return {"high": bins.high, "scale": 1 / bins.width, "num_bins": bins.num_bins}


def _blocks(size: int, at_once: int) -> int:
    return -(-size // at_once)


def power_of_two(size: int) -> int:
    """The smallest that is at least ``size``."""
    return 1 << (size - 1).bit_length()
