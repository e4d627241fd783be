"""The work on one tile in plain torch, for any device.

Shapes: n images, b rows of this worker, M bins, r x c a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apdist.config.loss import Bins
from apdist.loss.batch import Batch
from apdist.loss.kernels.products import products_of as products_of
from apdist.loss.precision import bin_width
from apdist.loss.precision import tables_of as tables_of
from apdist.loss.tiles import Histograms, Tile, within

# So many float32 terms of at most 1 lose nothing that matters; their sums add up in float64.
_TERMS_AT_ONCE = 512


class Binning:
    """Histograms of the own ``rows``, tile by tile."""

    def __init__(self, batch: Batch, rows: slice) -> None:
        self.pairs, self.rows, self.bins = batch.pairs, rows, batch.options
        size, device, bins = rows.stop - rows.start, batch.descriptors.device, self.bins
        self.everything = torch.zeros(size, bins.num_bins, dtype=torch.float64, device=device)
        self.positives = torch.zeros_like(self.everything)  # not cumulative
        self.counts = torch.zeros(size, bins.num_bins - 1, dtype=torch.int64, device=device)

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c); writes ``codes`` unless that is (0, 0)."""
        if scores.numel() == 0:
            return
        places = _places(scores, self.bins)  # (r, c)
        if codes.numel() > 0:
            codes.copy_(_codes(places, self.bins))
        excluded = self.pairs.excluded(tile.rows, tile.columns)
        positive = self.pairs.positive(tile.rows, tile.columns) & ~excluded
        sides = [(within(tile.rows, self.rows), 1)]
        if tile.mirrored:
            sides.append((within(tile.columns, self.rows), 0))
        self._add_positives(places, positive, tile, sides)
        self._add_everything(places, excluded, sides)

    def _add_positives(
        self, places: Tensor, positive: Tensor, tile: Tile, sides: list[tuple[slice, int]]
    ) -> None:
        """Positives are few: a scatter of their positions is cheaper than a pass over the tile."""
        positions = positive.nonzero()  # (p, 2)
        values = places[positive].double()  # (p,)
        lower = values.long().clamp_(max=self.bins.num_bins - 2)
        inside = values - lower
        itself = self.pairs.itself(tile.rows, tile.columns)[positive]
        counted = (values > 0) & (values < self.bins.num_bins - 1) & ~itself
        for rows, axis in sides:
            own = positions[:, 1 - axis]
            self.positives[rows].index_put_((own, lower), 1 - inside, accumulate=True)
            self.positives[rows].index_put_((own, lower + 1), inside, accumulate=True)
            self.counts[rows].index_put_((own, lower), counted.long(), accumulate=True)

    def _add_everything(
        self, places: Tensor, excluded: Tensor, sides: list[tuple[slice, int]]
    ) -> None:
        low, high = (int(place) for place in places.aminmax())
        # At M no bin is reached.
        places = places.masked_fill(excluded, self.bins.num_bins)
        for u in range(low, high + 1):
            share = (u + 1 - places).clamp_(0, 1)  # (r, c)
            for rows, axis in sides:
                self.everything[rows, u] += _sum(share, axis)
        for rows, axis in sides:
            num_pairs = (~excluded).sum(dim=axis)
            self.everything[rows, high + 1 :] += num_pairs[:, None]

    def histograms(self) -> Histograms:
        """What all tiles added up to."""
        positives = self.positives.cumsum(dim=1)
        return Histograms(positives, self.everything, self.counts, positives.new_empty(0))


class Sloping:
    """Derivatives by the similarities, from the ``slopes`` (2, M+1, n) of every row."""

    def __init__(self, batch: Batch, rows: slice, slopes: Tensor) -> None:  # noqa: ARG002
        self.pairs, self.bins = batch.pairs, batch.options
        self.slopes = slopes.permute(2, 0, 1)  # (n, 2, M+1)

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
    return ((bins.max_score - scores) / bin_width(bins)).clamp_(0, bins.num_bins - 1)


def _codes(places: Tensor, bins: Bins) -> Tensor:
    """Interval u of a place, plus 1; 0 at the first centre and M from the last."""
    return (places.floor() + (places > 0)).clamp_(max=bins.num_bins)


def _sum(values: Tensor, axis: int) -> Tensor:
    """Float64 sums of ``values`` (r, c) over one axis."""
    parts = [part.sum(dim=axis).double() for part in torch.split(values, _TERMS_AT_ONCE, axis)]
    return torch.stack(parts).sum(dim=0)


def _slopes_at(slopes: Tensor, codes: Tensor, positive: Tensor) -> Tensor:
    """(r, c) slope of each pair, from the tables ``slopes`` (r, 2, M+1) of its rows."""
    return slopes[:, 1].gather(1, codes).where(positive, slopes[:, 0].gather(1, codes))
