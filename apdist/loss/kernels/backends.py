"""Which code does the work on a tile: compiled for the CPU or the GPU, or plain torch.

Shapes: n images, b of them rows of this worker, d descriptor size, M bins, r x c a tile.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from apdist.loss.options import Bins, LossOptions
from apdist.loss.precision import Tables, tables_of
from apdist.loss.tiles import Histograms, Pairs, Tile

logger = logging.getLogger(__name__)

# A program of `bin_related` keeps the histograms of its lines in registers.
MAX_BINS_OF_TRITON = 512


class Binning(Protocol):
    """First pass: takes tiles of similarities, gives histograms."""

    def add(self, scores: Tensor, codes: Tensor, tile: Tile) -> None:
        """Count a tile of ``scores`` (r, c); writes ``codes`` unless that is (0, 0)."""

    def histograms(self) -> Histograms:
        """What all tiles added up to."""


class Sloping(Protocol):
    """Second pass: takes tiles of similarities, gives tiles of derivatives."""

    def derivative(self, scores: Tensor, codes: Tensor, tile: Tile) -> Tensor:
        """(r, c) dL/ds_ij + dL/ds_ji; may overwrite ``scores``, reads ``codes`` instead if kept.

        For products of bfloat16 it may be (2, r, c), a number and what it leaves over.
        """


def new_binning(descriptors: Tensor, pairs: Pairs, rows: slice, options: LossOptions) -> Binning:
    """First pass over the own ``rows`` of ``descriptors`` (n, d)."""
    backend = backend_of(options, descriptors)
    if backend == "numba":
        from apdist.loss.kernels.numba_histogram import NumbaBinning

        return NumbaBinning(pairs, rows, options.bins, descriptors.dtype)
    if backend == "triton":
        from apdist.loss.kernels.triton_histogram import TritonBinning

        return TritonBinning(pairs, rows, options.bins)
    from apdist.loss.kernels.torch_histogram import TorchBinning

    return TorchBinning(pairs, rows, options.bins)


def new_sloping(
    descriptors: Tensor, pairs: Pairs, rows: slice, slopes: Tensor, options: LossOptions
) -> Sloping:
    """Second pass over the own ``rows``, given the ``slopes`` (n, 2, M-1) of every row."""
    backend = backend_of(options, descriptors)
    if backend == "numba":
        from apdist.loss.kernels.numba_histogram import NumbaSloping

        return NumbaSloping(pairs, slopes, options.bins, descriptors.dtype)
    if backend == "triton":
        from apdist.loss.kernels.triton_histogram import TritonSloping

        return TritonSloping(pairs, rows, slopes, options.bins, options.precision == "bf16x3")
    from apdist.loss.kernels.torch_histogram import TorchSloping

    return TorchSloping(pairs, slopes, options.bins, descriptors.dtype)


def new_tables(
    descriptors: Tensor, histograms: Histograms, weights: Tensor, options: LossOptions
) -> Tables:
    """From the histograms of the own rows to average precision and slopes."""
    if backend_of(options, descriptors) == "triton" and options.variant == "ap":
        from apdist.loss.kernels.triton_tables import tables_of_ap

        return tables_of_ap(histograms, weights, options.bins.width)
    return tables_of(histograms, weights, options.variant, options.bins.width)


def backend_of(options: LossOptions, descriptors: Tensor) -> str:
    """What ``options.backend`` means for these ``descriptors``: numba, triton, tiled or dense."""
    if options.backend != "auto":
        return options.backend
    device = descriptors.device.type
    if device == "cpu" and has_numba():
        return "numba"
    if device != "cuda":
        return "tiled"
    if suits_triton(options.bins, descriptors):
        return "triton"
    _warn_of_plain_torch(_hindrance(options.bins, descriptors))
    return "tiled"


def suits_triton(bins: Bins, descriptors: Tensor) -> bool:
    """Whether the Triton kernels can run on ``descriptors`` here."""
    return not _hindrance(bins, descriptors)


def _hindrance(bins: Bins, descriptors: Tensor) -> str:
    """Why the Triton kernels cannot run on ``descriptors`` here; "" if they can."""
    if not has_triton():
        return "triton is not installed; pip install triton"
    if descriptors.dtype != torch.float32:
        return f"descriptors are {descriptors.dtype}; its kernels take torch.float32"
    if bins.num_bins > MAX_BINS_OF_TRITON:
        return f"num_bins is {bins.num_bins}; its kernels take {MAX_BINS_OF_TRITON} at most"
    if is_interpreted():
        return ""
    if descriptors.device.type != "cuda":
        return f"descriptors are on {descriptors.device}; its kernels need a CUDA device"
    return "" if _can_build() else "no C compiler or no Python.h; install gcc and python3-dev"


@functools.cache
def _warn_of_plain_torch(reason: str) -> None:
    """Once per reason and process."""
    logger.warning(
        "the loss runs in plain torch on the GPU, several times slower than by Triton: %s", reason
    )


@functools.cache
def has_numba() -> bool:
    """Whether numba is installed; does not import it, which takes a second."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def has_triton() -> bool:
    """Whether triton is installed; does not import it."""
    return importlib.util.find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether Triton runs kernels as Python, on any device; decided before its first import."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _can_build() -> bool:
    """Whether Triton finds the C compiler and Python's headers, with which it starts kernels."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return bool(compiler) and headers.exists()
