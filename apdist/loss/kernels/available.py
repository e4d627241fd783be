"""Which kernels can run here: what is installed, and what the descriptors are."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
import sysconfig
from pathlib import Path

import torch

from apdist.config.extras import install

logger = logging.getLogger(__name__)

# A program of `bin_related` keeps the histograms of its lines in registers.
MAX_BINS_OF_TRITON = 512


def hindrance_of_triton(num_bins: int, dtype: torch.dtype, device: torch.device) -> str:
    """Why the Triton kernels cannot run on descriptors of such a kind here; "" if they can."""
    if not has_triton():
        return f"triton is not installed; {install('triton')}"
    if dtype != torch.float32:
        return f"descriptors are {dtype}; its kernels take torch.float32"
    if num_bins > MAX_BINS_OF_TRITON:
        return f"num_bins is {num_bins}; its kernels take {MAX_BINS_OF_TRITON} at most"
    if is_interpreted():
        return ""
    if device.type != "cuda":
        return f"descriptors are on {device}; its kernels need a CUDA device"
    return "" if _can_build() else "no C compiler or no Python.h; install gcc and python3-dev"


@functools.cache
def warn_of_plain_torch(reason: str) -> None:
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
