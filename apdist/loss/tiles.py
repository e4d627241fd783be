"""The similarity matrix cut into tiles, and what is known about its pairs and its rows.

Shapes: n images, b of them rows of this worker, M bins, r x c a tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from apdist.config.loss import Backend, LossOptions

BLOCK = 128
"""Images on each side of a block of pairs; where Triton does the work, tiles consist of blocks."""

# The CPU's cache holds the scores of a small tile, and the product of long descriptors is faster in
# large ones; a GPU needs more work per launch.
_CPU_TILE, _CPU_TILE_OF_LONG, _LONG = 1024, 2048, 1024
# To count pairs twice costs more than calls, unless descriptors are long and the counting compiled.
_CPU_SQUARE = 512
_GPU_TILE, _GPU_SQUARE = 8192, 2048
# So few images on a GPU are done before the next launch: better one product than three.
_FEW_IMAGES = 4096
# Rows of scores start at multiples of this many, so that a lane of a GPU loads 16 bytes.
_TRITON_ROW = 16
# Codes run from 0 to M.
_MAX_BINS_OF_BYTE = 255
_SMALL_CACHE_BYTES = 256 * 2**20

Codes = list[Tensor]
"""(r, c) uint8 of each tile; (0, 0) where they are not kept."""


@dataclass(frozen=True)
class Pairs:
    """Which pairs of images are positive, negative or left out."""

    labels: Tensor
    """(n,) int64 class of each image."""

    ignore: Tensor
    """(n,) int64; images of different class that share a non-negative id are junk."""

    include_self: bool
    """Whether an image is a positive of itself."""

    has_junk: bool = True
    """False where no id is shared: nothing need look at ``ignore``."""

    found: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the first pass found out about the pairs, for the second."""

    def positive(self, rows: slice, columns: slice) -> Tensor:
        """(r, c) bool: same class."""
        return self.labels[rows, None] == self.labels[None, columns]

    def itself(self, rows: slice, columns: slice) -> Tensor:
        """(r, c) bool: the pair of an image with itself."""
        places = torch.arange(len(self.labels), device=self.labels.device)
        return places[rows, None] == places[None, columns]

    def excluded(self, rows: slice, columns: slice) -> Tensor:
        """(r, c) bool: the pair counts nowhere."""
        ids, column_ids = self.ignore[rows, None], self.ignore[None, columns]
        junk = (ids == column_ids) & (ids >= 0) & ~self.positive(rows, columns)
        return junk if self.include_self else junk | self.itself(rows, columns)


@dataclass(frozen=True)
class Histograms:
    """Histograms of each own row, from the best score down."""

    positives: Tensor
    """(b, M) float64, cumulative."""

    everything: Tensor
    """(b, M) float64, cumulative."""

    positive_counts: Tensor
    """(b, M-1) int64: positives (not the image itself) between two neighbouring centres."""

    squares: Tensor
    """(b,) similarity of each image with itself; (0,) where lengths were checked before."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the similarity matrix; ``mirrored`` where it also stands for its transpose."""

    rows: slice
    columns: slice
    mirrored: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tile, (r, c)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def num_pairs(self) -> int:
        """Scores that it has."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Tiling:
    """How the similarity matrix is cut."""

    num_rows: int
    """Rows of a tile at most."""

    num_columns: int
    """Columns of a tile at most."""

    smallest_square: int
    """A square on the diagonal is one tile, that counts each pair twice: larger ones are halved."""

    multiple: int = 1
    """Tiles begin at multiples of it, counted from the first own row and the first image."""

    row_multiple: int = 1
    """Rows of a tile's scores begin at multiples of so many numbers."""

    largest_first: bool = False
    """A GPU works on large tiles while Python prepares the many small ones."""

    def stride(self, tile: Tile) -> int:
        """Numbers from a row of a tile's scores to the next."""
        return _up(tile.shape[1], self.row_multiple)

    def view(self, buffer: Tensor, tile: Tile) -> Tensor:
        """(r, c) the beginning of a ``buffer`` as the scores of a tile."""
        return buffer.as_strided(tile.shape, (self.stride(tile), 1))


def tiling_of(
    shape: torch.Size, device: torch.device, backend: Backend, tile_size: int | Literal["auto"]
) -> Tiling:
    """How the similarities of descriptors of a ``shape`` (n, d) are cut for a backend."""
    num_images, num_numbers = shape
    of_triton = backend == "triton"
    if of_triton or device.type != "cpu":
        size = _GPU_TILE if tile_size == "auto" else tile_size
        square = _GPU_SQUARE if num_images > _FEW_IMAGES else _FEW_IMAGES
        multiple, row_multiple = (BLOCK, _TRITON_ROW) if of_triton else (1, 1)
        return Tiling(size, size, square, multiple, row_multiple, largest_first=True)
    is_long = num_numbers >= _LONG
    default = _CPU_TILE_OF_LONG if is_long else _CPU_TILE
    size = default if tile_size == "auto" else tile_size
    return Tiling(size, size, size if is_long and backend == "numba" else _CPU_SQUARE)


def tiles_of(num_images: int, rows: slice, tiling: Tiling) -> list[Tile]:
    """Tiles that cover the own rows: the upper triangle where they are all rows, else the strip."""
    triangular = (rows.start, rows.stop) == (0, num_images)
    height, width = _up(tiling.num_rows, tiling.multiple), _up(tiling.num_columns, tiling.multiple)
    tiles = []
    for top in range(rows.start, rows.stop, height):
        own = slice(top, min(top + height, rows.stop))
        if triangular:
            tiles += _diagonal(own, tiling)
        for left in range(own.stop if triangular else 0, num_images, width):
            columns = slice(left, min(left + width, num_images))
            tiles.append(Tile(own, columns, triangular))
    if tiling.largest_first:
        tiles.sort(key=Tile.num_pairs, reverse=True)
    else:  # The last one's scores are there twice: it is one that takes long to multiply.
        tiles.sort(key=lambda tile: (tile.mirrored, tile.num_pairs()))
    return tiles


def _diagonal(part: slice, tiling: Tiling) -> list[Tile]:
    """Tiles of a square on the diagonal, halved until little is computed twice."""
    size = part.stop - part.start
    half = _up(-(-size // 2), tiling.multiple)
    if size <= tiling.smallest_square or half >= size:
        return [Tile(part, part, False)]
    middle = part.start + half
    first, second = slice(part.start, middle), slice(middle, part.stop)
    return [*_diagonal(first, tiling), Tile(first, second, True), *_diagonal(second, tiling)]


def _up(size: int, multiple: int) -> int:
    """``size``, or the next multiple above it."""
    return -(-size // multiple) * multiple


def within(part: slice, rows: slice) -> slice:
    """``part`` counted from the first of ``rows``."""
    return slice(part.start - rows.start, part.stop - rows.start)


def new_buffer(
    tiles: list[Tile], tiling: Tiling, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Room for the scores of the largest tile."""
    size = max((tile.shape[0] * tiling.stride(tile) for tile in tiles), default=0)
    return torch.empty(size, dtype=dtype, device=device)


def new_codes(
    tiles: list[Tile], tiling: Tiling, options: LossOptions, device: torch.device
) -> Codes:
    """Room for one byte a pair if that is within the budget."""
    num_bytes = sum(tile.shape[0] * tiling.stride(tile) for tile in tiles)
    if options.num_bins > _MAX_BINS_OF_BYTE or not _fits(num_bytes, options, device):
        return [torch.empty((0, 0), dtype=torch.uint8, device=device) for _ in tiles]
    return [tiling.view(new_buffer([tile], tiling, torch.uint8, device), tile) for tile in tiles]


def _fits(num_bytes: int, options: LossOptions, device: torch.device) -> bool:
    """Whether so much may be kept beside the descriptors."""
    if options.cache_mib != "auto":
        return num_bytes <= options.cache_mib << 20
    if num_bytes <= _SMALL_CACHE_BYTES or device.type != "cuda":
        return num_bytes <= _SMALL_CACHE_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds and does not use is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return num_bytes <= free // 2
