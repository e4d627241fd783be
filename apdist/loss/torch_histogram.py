"""The work on one tile in plain torch, for any device.

Shapes: n images, b rows of this worker, M bins, r x c a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apdist.loss.options import Bins
from apdist.loss.tiles import Histograms, Pairs, Tile, within

# So many float32 terms of at most 1 lose nothing that matters; their sums add up in float64.
_TERMS_AT_ONCE = 512


class TorchBinning:
    """Histograms of the own ``rows``, tile by tile."""

    def __init__(self, pairs: Pairs, rows: slice, bins: Bins) -> None:
        self.pairs, self.rows, self.bins = pairs, rows, bins
        size, device = rows.stop - rows.start, pairs.labels.device
        self.positives = torch.zeros(size, bins.num_bins, dtype=torch.float64, device=device)
        self.everything = torch.zeros_like(self.positives)
        self.counts = torch.zeros(size, bins.num_bins - 1, dtype=torch.int64, device=device)

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c); writes ``codes`` unless that is (0, 0)."""
        places = _places(scores, self.bins)  # (r, c)
        if codes.numel() > 0:
            codes.copy_(_codes(places, self.bins))
        positive = self.pairs.positive(tile.rows, tile.columns)
        # At M no bin is reached: the pair is left out.
        places.masked_fill_(self.pairs.excluded(tile.rows, tile.columns), self.bins.num_bins)
        inside = positive & ~self.pairs.itself(tile.rows, tile.columns)
        self._add(places, positive, inside, within(tile.rows, self.rows))
        if tile.mirrored:
            self._add(places.T, positive.T, inside.T, within(tile.columns, self.rows))

    def _add(self, places: Tensor, positive: Tensor, counted: Tensor, rows: slice) -> None:
        codes = _codes(places, self.bins)
        for u in range(self.bins.num_bins):
            share = (u + 1 - places).clamp_(0, 1)  # (r, c)
            self.everything[rows, u] += _sum_rows(share)
            self.positives[rows, u] += _sum_rows(share.masked_fill_(~positive, 0))
        for u in range(self.bins.num_bins - 1):
            self.counts[rows, u] += ((codes == u + 1) & counted).sum(dim=1)

    def histograms(self) -> Histograms:
        """What all tiles added up to."""
        return Histograms(self.positives, self.everything, self.counts)


class TorchSloping:
    """Derivatives by the similarities, from the ``slopes`` (n, 2, M-1) of every row."""

    def __init__(self, pairs: Pairs, slopes: Tensor, bins: Bins, dtype: torch.dtype) -> None:
        self.pairs, self.bins = pairs, bins
        # Codes 0 and M, outside the centres, have slope 0.
        self.slopes = torch.nn.functional.pad(slopes.to(dtype), (1, 1))  # (n, 2, M+1)

    def derivative(self, scores: Tensor, codes: Tensor, tile: Tile) -> Tensor:
        """(r, c) dL/ds_ij + dL/ds_ji; reads ``codes`` instead of ``scores`` if they are kept."""
        if codes.numel() == 0:
            codes = _codes(_places(scores, self.bins), self.bins)
        intervals = codes.long()
        positive = self.pairs.positive(tile.rows, tile.columns)
        change = _slopes_at(self.slopes[tile.rows], intervals, positive)
        change = change + _slopes_at(self.slopes[tile.columns], intervals.T, positive.T).T
        constant = self.pairs.excluded(tile.rows, tile.columns)
        return change.masked_fill_(constant | self.pairs.itself(tile.rows, tile.columns), 0)


def _places(scores: Tensor, bins: Bins) -> Tensor:
    """(r, c) place of each score on the axis of bins: 0 at the first centre, M - 1 at the last."""
    return ((bins.high - scores) / bins.width).clamp_(0, bins.num_bins - 1)


def _codes(places: Tensor, bins: Bins) -> Tensor:
    """Interval u of a place, plus 1; 0 at the first centre and M from the last."""
    return (places.floor() + (places > 0)).clamp_(max=bins.num_bins)


def _sum_rows(values: Tensor) -> Tensor:
    """(r,) float64 sums of ``values`` (r, c)."""
    parts = [part.sum(dim=1).double() for part in torch.split(values, _TERMS_AT_ONCE, dim=1)]
    return torch.stack(parts).sum(dim=0)


def _slopes_at(slopes: Tensor, codes: Tensor, positive: Tensor) -> Tensor:
    """(r, c) slope of each pair, from the tables ``slopes`` (r, 2, M+1) of its rows."""
    return slopes[:, 1].gather(1, codes).where(positive, slopes[:, 0].gather(1, codes))
