"""What the work on a tile consists of, and the module that does it for a backend.

Shapes: n images, b of them rows of this worker, d descriptor size, M bins, r x c a tile.
"""

from __future__ import annotations

import functools
import importlib
from contextlib import AbstractContextManager
from typing import Protocol, cast

from torch import Tensor

from apdist.config.loss import Backend, Precision
from apdist.loss.batch import Batch
from apdist.loss.kernels.products import Products
from apdist.loss.precision import Tables
from apdist.loss.tiles import Histograms, Tile

KERNELS: dict[Backend, str] = {
    "numba": "apdist.loss.kernels.numba_histogram",
    "triton": "apdist.loss.kernels.triton_histogram",
    "tiled": "apdist.loss.kernels.torch_histogram",
}


class Binning(Protocol):
    """First pass: takes tiles of similarities, gives histograms."""

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c), which stay; writes ``codes`` unless that is (0, 0)."""

    def histograms(self) -> Histograms:
        """What all tiles added up to."""


class Sloping(Protocol):
    """Second pass: takes tiles of similarities, gives tiles of derivatives."""

    def derivative(self, scores: Tensor, codes: Tensor, tile: Tile) -> Tensor:
        """(r, c) dL/ds_ij + dL/ds_ji; may overwrite ``scores``, reads ``codes`` instead if kept.

        For products of bfloat16 it may be (2, r, c), a number and what it leaves over.
        """


class Kernels(Protocol):
    """A module that does the work."""

    def products_of(
        self, descriptors: Tensor, precision: Precision
    ) -> AbstractContextManager[Products]:
        """Products of ``descriptors`` (n, d): similarities, and the gradient from their slopes."""

    def Binning(self, batch: Batch, rows: slice) -> Binning:  # noqa: N802
        """First pass over the own ``rows``."""

    def Sloping(self, batch: Batch, rows: slice, slopes: Tensor) -> Sloping:  # noqa: N802
        """Second pass over the own ``rows``, given the ``slopes`` (2, M+1, n) of every row."""

    def tables_of(self, histograms: Histograms, batch: Batch, rows: slice) -> Tables:
        """From the histograms of the own ``rows`` to average precision and slopes."""


@functools.cache
def kernels_of(backend: Backend) -> Kernels:
    """The module of ``backend``, imported when it is first wanted: numba takes a second."""
    return cast(Kernels, importlib.import_module(KERNELS[backend]))
