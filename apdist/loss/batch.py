"""The batch that the listwise loss scores: checked, upcast, and with the backend that suits it.

Shapes: n images, d descriptor size.
"""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from apdist.config.loss import Backend, LossOptions
from apdist.loss.kernels.available import (
    MAX_BINS_OF_TRITON,
    has_numba,
    hindrance_of_triton,
    warn_of_plain_torch,
)
from apdist.loss.tiles import Pairs

logger = logging.getLogger(__name__)

_INTEGERS = (
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
)
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Batch:
    """What is scored, and how."""

    descriptors: Tensor
    """(n, d) float32 or float64."""

    pairs: Pairs
    """Which are positive, negative or left out."""

    weights: Tensor | None
    """(n,) float64 of the queries, need not have mean 1; none, all 1."""

    options: LossOptions
    """What was asked for."""

    backend: Backend
    """What works on the tiles: "auto" has been decided."""

    tolerance: float
    """How far the length of a descriptor may be from 1."""

    lengths_are_checked: bool
    """Whether that has been looked at."""

    def weights_of(self, rows: slice) -> Tensor:
        """(b,) float64 of the queries in ``rows``."""
        if self.weights is not None:
            return self.weights[rows]
        return self.descriptors.new_ones(rows.stop - rows.start, dtype=torch.float64)


def checked_batch(
    descriptors: Tensor,
    labels: Tensor,
    ignore: Tensor | None,
    query_weights: Tensor | None,
    options: LossOptions,
) -> Batch:
    """The arguments of `average_precision_loss`, as they are computed with.

    Raises:
        ValueError: one of them is not as described there.
    """
    descriptors, tolerance = upcast(descriptors)
    if not options.check_norm:
        tolerance = math.inf
    backend = chosen_backend(options, descriptors)
    # To ask a GPU for them now would keep it waiting, and its kernels can bear any number.
    is_late = backend == "triton" and len(descriptors) > 0
    if not is_late:
        check_lengths(descriptors, tolerance)
    check_labels("labels", labels, descriptors)
    has_junk = ignore is not None
    # Images of one class are never junk to each other.
    ignore = labels if ignore is None else ignore
    check_labels("ignore", ignore, descriptors)
    weights = None
    if query_weights is not None:
        check_query_weights(query_weights, descriptors)
        weights = query_weights.detach().double()
        # Their scale says nothing, and their sum might overflow.
        if len(weights) > 0:
            weights = weights / weights.max().clamp(min=torch.finfo(weights.dtype).tiny)
    pairs = Pairs(labels.long(), ignore.long(), options.include_self, has_junk)
    return Batch(descriptors, pairs, weights, options, backend, tolerance, not is_late)


def chosen_backend(options: LossOptions, descriptors: Tensor) -> Backend:
    """What does the work on ``descriptors`` (n, d); the fastest here for "auto".

    Raises:
        ValueError: the backend or the precision is not to be had for them here.
    """
    device, backend = descriptors.device, options.backend
    if backend == "numba" and (device.type != "cpu" or not has_numba()):
        raise ValueError(
            'backend "numba" needs the numba package and descriptors on the CPU, '
            f'got descriptors on {device}; use backend="auto"'
        )
    if backend == "triton" and hindrance_of_triton(options.num_bins, descriptors.dtype, device):
        raise ValueError(
            'backend "triton" needs the triton package, a C compiler, at most '
            f"{MAX_BINS_OF_TRITON} bins and torch.float32 descriptors on a CUDA device, got "
            f'{options.num_bins} bins and {descriptors.dtype} on {device}; use backend="auto"'
        )
    if options.precision == "bf16x3" and (backend == "dense" or descriptors.dtype != torch.float32):
        raise ValueError(
            'precision "bf16x3" needs torch.float32 descriptors and a backend other than "dense", '
            f'got {descriptors.dtype} and backend "{backend}"; use precision="float32"'
        )
    if backend != "auto":
        return backend
    if device.type == "cpu" and has_numba():
        return "numba"
    if device.type != "cuda":
        return "tiled"
    if hindrance := hindrance_of_triton(options.num_bins, descriptors.dtype, device):
        warn_of_plain_torch(hindrance)
        return "tiled"
    return "triton"


def checked_descriptors(descriptors: Tensor, labels: Tensor) -> Tensor:
    """``descriptors`` (n, d) in float32 or float64, for a loss that is no listwise one.

    Raises:
        ValueError: there are none, they are no unit vectors, or ``labels`` are not n integers.
    """
    descriptors, tolerance = upcast(descriptors)
    check_lengths(descriptors.detach(), tolerance)
    check_labels("labels", labels, descriptors)
    if not len(labels):
        raise ValueError("the batch is empty; a loss needs images")
    return descriptors


def upcast(descriptors: Tensor) -> tuple[Tensor, float]:
    """``descriptors`` (n, d) in float32 or float64, and how far their lengths may be from 1.

    Raises:
        ValueError: wrong shape or dtype.
    """
    tolerance = _NORM_TOLERANCE
    if descriptors.dim() != 2 or not descriptors.is_floating_point():
        raise ValueError(
            "descriptors must be floating point of shape (n, d), "
            f"got {descriptors.dtype} of shape {tuple(descriptors.shape)}; pass one row per image"
        )
    if descriptors.dtype not in (torch.float32, torch.float64):
        _warn_of_upcast(descriptors.dtype)
        # Its rounding alone moves the length of a unit vector.
        tolerance = max(tolerance, 2 * torch.finfo(descriptors.dtype).eps)
        descriptors = descriptors.float()
    return descriptors, tolerance


def device_of(descriptors: Tensor) -> str:
    """Kind of device that ``descriptors`` lie on.

    Raises:
        ValueError: they are no tensor.
    """
    if not isinstance(descriptors, Tensor):
        raise ValueError(
            f"descriptors must be a tensor (n, d), got {type(descriptors).__name__}; "
            "use torch.as_tensor"
        )
    return descriptors.device.type


def check_labels(name: str, labels: Tensor, descriptors: Tensor) -> None:
    """Refuse ``labels`` (or ignore ids) that are not n integers beside the descriptors (n, d)."""
    _check_one_per_image(name, labels, descriptors)
    if labels.dtype not in _INTEGERS:
        raise ValueError(
            f"{name} must be integers, got {labels.dtype}; convert them with .long(), "
            "or number the classes"
        )


def check_query_weights(query_weights: Tensor, descriptors: Tensor) -> None:
    """Refuse weights that are not n finite, non-negative numbers with at least one above 0."""
    _check_one_per_image("query_weights", query_weights, descriptors)
    if not query_weights.is_floating_point():
        raise ValueError(
            f"query_weights must be floating point, got {query_weights.dtype}; use .float()"
        )
    bad = ~(query_weights.isfinite() & (query_weights >= 0))
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            "query_weights must be finite and not negative, "
            f"got {query_weights[row].item()} at row {row}; use 0 to leave a query out"
        )


def _check_one_per_image(name: str, values: Tensor, descriptors: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise ValueError(
            f"{name} must be a tensor, got {type(values).__name__}; use torch.as_tensor({name})"
        )
    if values.shape != descriptors.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(descriptors)},), one per descriptor, "
            f"got {tuple(values.shape)}; flatten them or gather both together"
        )
    if values.device != descriptors.device:
        raise ValueError(
            f"{name} must be on {descriptors.device} with the descriptors, got {values.device}; "
            f"use {name}.to(descriptors.device)"
        )


def check_lengths(descriptors: Tensor, tolerance: float) -> None:
    """Refuse ``descriptors`` (n, d) with a row that is not finite, or not of unit length.

    Args:
        descriptors: of the batch.
        tolerance: how far a length may be from 1; infinite, any finite row will do.
    """
    if len(descriptors) == 0:
        return
    norms = torch.linalg.vector_norm(descriptors.detach(), dim=1)  # (n,)
    # One answer from the device where all is well; a comparison with NaN is false.
    smallest, largest = torch.stack(norms.aminmax()).tolist()
    if 1 - tolerance <= smallest and largest <= 1 + tolerance and math.isfinite(largest):
        return
    suspects = (~norms.isfinite()).nonzero()[:, 0]
    # A finite row whose norm overflows is long, not infinite.
    broken = suspects[~descriptors[suspects].isfinite().all(dim=1)]
    if len(broken) > 0:
        raise ValueError(
            f"descriptors must be finite, got NaN or infinity in {len(broken)} rows, "
            f"the first is row {int(broken[0])}; lower the learning rate or look at that image"
        )
    off = ((norms - 1).abs() > tolerance).nonzero()[:, 0]
    if len(off) > 0:
        row = int(off[0])
        raise ValueError(
            f"descriptors must have unit length within {tolerance:.4g}, got norm "
            f"{norms[row].item():.6g} at row {row} ({len(off)} such rows); use "
            "torch.nn.functional.normalize(descriptors.float()), or check_norm=False"
        )


@functools.cache
def _warn_of_upcast(dtype: torch.dtype) -> None:
    """Once per dtype and process."""
    logger.warning(
        "descriptors in %s are converted to float32 for the loss: similarities in half precision "
        "cost several per cent of gradient error; let the model return float32",
        dtype,
    )
