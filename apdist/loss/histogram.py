"""The two passes over tiles of the similarity matrix: histograms of its rows, then the gradient.

No more than one tile of similarities exists at a time. The second pass computes it again, unless
the first could keep one byte a pair: the interval between two bin centres that its score is in.

Shapes: n images, b of them rows of this worker, d descriptor size, M bins, r x c a tile.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from apdist.loss.kernels.backends import backend_of, new_binning, new_sloping
from apdist.loss.options import LossOptions
from apdist.loss.products import float32_products, new_products
from apdist.loss.tiles import BLOCK, Cut, Histograms, Pairs, Tile, tiles_of, within

# The CPU's cache holds the scores of a small tile, and the product of long descriptors is faster in
# large ones; a GPU needs more work per launch.
_CPU_TILE, _CPU_TILE_OF_LONG, _LONG = 1024, 2048, 1024
_GPU_TILE, _GPU_SQUARE = 8192, 2048
# So few images on a GPU are done before the next launch: better one product than three.
_FEW_IMAGES = 4096
# Codes run from 0 to M.
_MAX_BINS_OF_BYTE = 255
_SMALL_CACHE_BYTES = 256 * 2**20
# Rows of scores start at multiples of this many, so that a lane of a GPU loads 16 bytes.
_TRITON_ROW = 16

Codes = list[Tensor]
"""(r, c) uint8 of each tile; (0, 0) where they are not kept."""


def cumulative_histograms(
    descriptors: Tensor, pairs: Pairs, rows: slice, options: LossOptions
) -> tuple[Histograms, Codes]:
    """Histograms of the scores of ``rows`` against all ``descriptors`` (n, d), and the codes."""
    cut = _cut(descriptors, options)
    tiles = tiles_of(len(descriptors), rows, cut)
    codes = _new_codes(tiles, cut, options, descriptors)
    binning = new_binning(descriptors, pairs, rows, options)
    buffer = _new_buffer(tiles, cut, descriptors)
    products = new_products(descriptors, options.precision)
    with float32_products(descriptors.device):
        for tile, tile_codes in zip(tiles, codes, strict=True):
            scores = products.scores(tile, _view(buffer, tile, cut))
            binning.add(scores, tile_codes, tile)
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
    cut = _cut(descriptors, options)
    tiles = tiles_of(len(descriptors), rows, cut)
    sloping = new_sloping(descriptors, pairs, rows, slopes, options)
    gradient = torch.zeros_like(descriptors[rows])
    buffer = _new_buffer(tiles, cut, descriptors)
    products = new_products(descriptors, options.precision)
    with float32_products(descriptors.device):
        for tile, tile_codes in zip(tiles, codes, strict=True):
            scores = _view(buffer, tile, cut)
            if tile_codes.numel() == 0:
                products.scores(tile, scores)
            change = sloping.derivative(scores, tile_codes, tile)
            products.add(change, tile.columns, gradient[within(tile.rows, rows)])
            if tile.mirrored:
                products.add(change.mT, tile.rows, gradient[within(tile.columns, rows)])
    return gradient


def _cut(descriptors: Tensor, options: LossOptions) -> Cut:
    of_triton = backend_of(options, descriptors) == "triton"
    if of_triton or descriptors.device.type != "cpu":
        size = options.tile_size or _GPU_TILE
        square = _GPU_SQUARE if len(descriptors) > _FEW_IMAGES else _FEW_IMAGES
        cut = Cut(size, size, square)
    else:
        default = _CPU_TILE_OF_LONG if descriptors.shape[1] >= _LONG else _CPU_TILE
        cut = Cut(options.tile_size or default, options.tile_size or default)
    if of_triton:
        cut = dataclasses.replace(cut, multiple=BLOCK, row_multiple=_TRITON_ROW)
    return cut


def _new_codes(tiles: list[Tile], cut: Cut, options: LossOptions, like: Tensor) -> Codes:
    """Room for one byte a pair if that is within the budget."""
    num_bytes = sum(tile.shape[0] * cut.stride(tile) for tile in tiles)
    if options.bins.num_bins > _MAX_BINS_OF_BYTE or not _fits(num_bytes, options, like):
        return [like.new_empty((0, 0), dtype=torch.uint8) for _ in tiles]
    return [_view(_new_buffer([tile], cut, like, torch.uint8), tile, cut) for tile in tiles]


def _fits(num_bytes: int, options: LossOptions, like: Tensor) -> bool:
    """Whether so much may be kept beside the descriptors."""
    if options.cache_bytes != "auto":
        return num_bytes <= options.cache_bytes
    if num_bytes <= _SMALL_CACHE_BYTES or like.device.type != "cuda":
        return num_bytes <= _SMALL_CACHE_BYTES
    free, _ = torch.cuda.mem_get_info(like.device)
    # What torch holds and does not use is free as well.
    free += torch.cuda.memory_reserved(like.device) - torch.cuda.memory_allocated(like.device)
    return num_bytes <= free // 2


def _new_buffer(
    tiles: list[Tile], cut: Cut, like: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Room for the scores of the largest tile."""
    size = max((tile.shape[0] * cut.stride(tile) for tile in tiles), default=0)
    return like.new_empty(size, dtype=dtype)


def _view(buffer: Tensor, tile: Tile, cut: Cut) -> Tensor:
    """(r, c) the beginning of a ``buffer`` as the scores of a tile."""
    return buffer.as_strided(tile.shape, (cut.stride(tile), 1))
