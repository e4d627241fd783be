"""The two passes over tiles of the similarity matrix: histograms of its rows, then the gradient.

No more than one tile of similarities exists at a time. The second pass computes it again, unless
the first could keep one byte a pair: the interval between two bin centres that its score is in.

Shapes: n images, b of them rows of this worker, d descriptor size, M bins, r x c a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apdist.loss.backends import new_binning, new_sloping
from apdist.loss.options import LossOptions
from apdist.loss.products import product_precision
from apdist.loss.tiles import Histograms, Pairs, Tile, tiles_of, within

# The CPU's cache holds the scores of a small tile, and the product of long descriptors is faster in
# large ones; a GPU needs more work per launch.
_CPU_TILE, _CPU_TILE_OF_LONG, _LONG, _GPU_TILE = 1024, 2048, 1024, 4096
# Codes run from 0 to M.
_MAX_BINS_OF_BYTE = 255

Codes = list[Tensor]
"""(r, c) uint8 of each tile; (0, 0) where they are not kept."""


def cumulative_histograms(
    descriptors: Tensor, pairs: Pairs, rows: slice, options: LossOptions
) -> tuple[Histograms, Codes]:
    """Histograms of the scores of ``rows`` against all ``descriptors`` (n, d), and the codes."""
    tiles = _tiles(descriptors, rows, options)
    codes = _new_codes(tiles, options, descriptors)
    binning = new_binning(descriptors, pairs, rows, options)
    buffer = _new_buffer(descriptors, tiles)
    with product_precision(options.precision, descriptors.device):
        for tile, tile_codes in zip(tiles, codes, strict=True):
            binning.add(_scores(descriptors, tile, buffer), tile_codes, tile)
    return binning.histograms(), codes


def descriptor_gradient(
    descriptors: Tensor,
    pairs: Pairs,
    rows: slice,
    slopes: Tensor,
    options: LossOptions,
    codes: Codes,
) -> Tensor:
    """(b, d) gradient of the descriptors of ``rows``, given the slopes of every row.

    Args:
        descriptors: (n, d) of all workers.
        pairs: which pairs are positive or left out.
        rows: own part of the n rows.
        slopes: (n, 2, M-1) derivative of the loss by the score of a negative and of a positive of
            each query, in each interval between two bin centres.
        options: as in the first pass.
        codes: what the first pass returned.
    """
    tiles = _tiles(descriptors, rows, options)
    sloping = new_sloping(descriptors, pairs, slopes, options)
    gradient = torch.zeros_like(descriptors[rows])
    buffer = _new_buffer(descriptors, tiles)
    with product_precision(options.precision, descriptors.device):
        for tile, tile_codes in zip(tiles, codes, strict=True):
            kept = tile_codes.numel() > 0
            scores = _view(buffer, tile) if kept else _scores(descriptors, tile, buffer)
            change = sloping.derivative(scores, tile_codes, tile)
            gradient[within(tile.rows, rows)].addmm_(change, descriptors[tile.columns])
            if tile.mirrored:
                gradient[within(tile.columns, rows)].addmm_(change.T, descriptors[tile.rows])
    return gradient


def _tiles(descriptors: Tensor, rows: slice, options: LossOptions) -> list[Tile]:
    default = _CPU_TILE_OF_LONG if descriptors.shape[1] >= _LONG else _CPU_TILE
    if descriptors.device.type != "cpu":
        default = _GPU_TILE
    return tiles_of(len(descriptors), rows, options.tile_size or default)


def _new_codes(tiles: list[Tile], options: LossOptions, like: Tensor) -> Codes:
    """Room for one byte a pair if that is within the budget."""
    num_bytes = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
    fits = num_bytes <= options.cache_bytes and options.bins.num_bins <= _MAX_BINS_OF_BYTE
    shapes = [tile.shape if fits else (0, 0) for tile in tiles]
    return [like.new_empty(shape, dtype=torch.uint8) for shape in shapes]


def _new_buffer(descriptors: Tensor, tiles: list[Tile]) -> Tensor:
    """Room for the scores of the largest tile."""
    size = max((tile.shape[0] * tile.shape[1] for tile in tiles), default=0)
    return descriptors.new_empty(size)


def _view(buffer: Tensor, tile: Tile) -> Tensor:
    return buffer[: tile.shape[0] * tile.shape[1]].view(tile.shape)


def _scores(descriptors: Tensor, tile: Tile, buffer: Tensor) -> Tensor:
    """(r, c) similarities of a tile."""
    scores = _view(buffer, tile)
    return torch.mm(descriptors[tile.rows], descriptors[tile.columns].T, out=scores)
