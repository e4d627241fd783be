"""Matrix products of a batch's descriptors: its similarities, and the gradient from their slopes.

Shapes: n images, d descriptor size, r x c a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from apdist.config.loss import Precision
from apdist.loss.tiles import Tile

# Rows of so many numbers let the tensor cores load 16 bytes at a time.
_BF16_MULTIPLE = 8
# Bounds the memory in which they are taken apart.
_ROWS_AT_ONCE = 65_536
# A CPU multiplies squares below this as fast whole, and copies bands of so many rows fastest.
_SMALL_SQUARE, _BAND = 128, 64


class Products(Protocol):
    """Products of the descriptors (n, d) of a batch."""

    halves: bool
    """Whether slopes are wanted as (2, r, c) bfloat16, a number and what it leaves over."""

    def scores(self, tile: Tile, out: Tensor) -> Tensor:
        """Write the similarities of a tile to ``out`` (r, c)."""

    def add(self, change: Tensor, columns: slice, gradient: Tensor) -> None:
        """Add ``change`` (r, c), or its halves, times the descriptors of ``columns`` to (r, d)."""


@contextmanager
def products_of(descriptors: Tensor, precision: Precision) -> Iterator[Products]:
    """Products of ``descriptors`` (n, d), inside the block."""
    with float32_products(descriptors.device):
        yield Bf16x3(descriptors) if precision == "bf16x3" else Exact(descriptors)


class Exact:
    """Products in the precision of the descriptors."""

    halves = False

    def __init__(self, descriptors: Tensor) -> None:
        self.descriptors = descriptors

    def scores(self, tile: Tile, out: Tensor) -> Tensor:
        """Write the similarities of a tile to ``out`` (r, c)."""
        rows, columns = self.descriptors[tile.rows], self.descriptors[tile.columns]
        if tile.rows == tile.columns and out.device.type == "cpu":
            _write_upper_half(rows, out)
            return _mirrored(out)
        return torch.mm(rows, columns.T, out=out)

    def add(self, change: Tensor, columns: slice, gradient: Tensor) -> None:
        """Add ``change`` (r, c) times the descriptors of ``columns`` to ``gradient`` (r, d)."""
        gradient.addmm_(change, self.descriptors[columns])


def _write_upper_half(rows: Tensor, out: Tensor) -> None:
    """Write the products of ``rows`` (r, d) with each other above the diagonal of ``out`` (r, r).

    By halves: what is left is little, and large products are the fast ones.
    """
    size = len(rows)
    if size <= _SMALL_SQUARE:
        torch.mm(rows, rows.T, out=out)
        return
    half = -(-size // (2 * _BAND)) * _BAND
    torch.mm(rows[:half], rows[half:].T, out=out[:half, half:])
    _write_upper_half(rows[:half], out[:half, :half])
    _write_upper_half(rows[half:], out[half:, half:])


def _mirrored(square: Tensor) -> Tensor:
    """``square`` (r, r) with what lies above the diagonal below it as well."""
    for begin in range(0, len(square), _BAND):
        end = begin + _BAND
        square[end:, begin:end] = square[begin:end, end:].T
    return square


class Bf16x3:
    """Float32 products as three of bfloat16, which tensor cores multiply exactly.

    A factor is a bfloat16 and what that leaves over, another bfloat16: 16 binary digits of 24. The
    product of the two remainders, 2**-18 of the whole, is left out, so that an n x n x d product
    takes 3 n n d multiplications with a relative error near that of float32 sums.

    On a CPU the same numbers are multiplied as float32: for tests, it is slower than float32.
    """

    halves = True

    def __init__(self, descriptors: Tensor) -> None:
        num_images, self.size = descriptors.shape
        width = self.size + -self.size % _BF16_MULTIPLE
        # Two windows of one table: (upper, upper, lower) against (upper, lower, upper).
        table = descriptors.new_zeros((num_images, 4 * width), dtype=torch.bfloat16)  # (n, 4d)
        parts = table.view(num_images, 4, width)[:, :, : self.size]
        for begin in range(0, num_images, _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            upper, lower = halved(descriptors[rows])
            for part, values in enumerate((upper, upper, lower, upper)):
                parts[rows, part] = values
        self.left, self.right = table[:, width:], table[:, : 3 * width]  # (n, 3d)
        self.upper, self.lower = parts[:, 0], parts[:, 2]  # (n, d)

    def scores(self, tile: Tile, out: Tensor) -> Tensor:
        """Write the similarities of a tile to ``out`` (r, c)."""
        left, right = self.left[tile.rows], self.right[tile.columns].T
        if out.device.type != "cuda":
            return torch.mm(left.float(), right.float(), out=out)
        return torch.mm(left, right, out_dtype=torch.float32, out=out)

    def add(self, change: Tensor, columns: slice, gradient: Tensor) -> None:
        """Add ``change`` (r, c), or its halves, times the descriptors of ``columns`` to (r, d)."""
        upper_change, lower_change = change if change.dim() == 3 else halved(change)
        upper, lower = self.upper[columns], self.lower[columns]
        for left, right in ((lower_change, upper), (upper_change, lower), (upper_change, upper)):
            if gradient.device.type != "cuda":
                gradient.addmm_(left.float(), right.float())
            else:
                torch.addmm(gradient, left, right, out_dtype=torch.float32, out=gradient)


def halved(values: Tensor) -> tuple[Tensor, Tensor]:
    """``values`` as bfloat16, and what that leaves over."""
    upper = values.bfloat16()
    return upper, (values - upper.to(values.dtype)).bfloat16()


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 on a CUDA ``device`` as float32, not as TF32, whatever the process's flag.

    The flag is the process's: another thread's products meanwhile have the same precision.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if device.type != "cuda" or before == "ieee":
        yield
        return
    # "none" follows torch.backends.fp32_precision, later changes of it included.
    follows = before == torch.backends.fp32_precision  # type: ignore[attr-defined]
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = "none" if follows else before
