"""Refusals of input that would give a wrong number, and the upcast of half precision.

Shapes: n images, d descriptor size.
"""

from __future__ import annotations

import functools
import logging
import math

import torch
from torch import Tensor

from apdist.loss.kernels.backends import MAX_BINS_OF_TRITON, has_numba, suits_triton
from apdist.loss.options import LossOptions

logger = logging.getLogger(__name__)

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_NORM_TOLERANCE = 1e-3


def checked_descriptors(descriptors: Tensor, check_norm: bool) -> Tensor:
    """``descriptors`` (n, d) in float32 or float64.

    Raises:
        ValueError: wrong shape or dtype, a value that is not finite, a row not of unit length.
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
    _check_rows(descriptors.detach(), tolerance if check_norm else None)
    return descriptors


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


def check_backend(options: LossOptions, descriptors: Tensor) -> None:
    """Refuse a backend or a precision that the ``descriptors`` (n, d) cannot have here."""
    device, backend = descriptors.device, options.backend
    if backend == "numba" and (device.type != "cpu" or not has_numba()):
        raise ValueError(
            'backend "numba" needs the numba package and descriptors on the CPU, '
            f'got descriptors on {device}; use backend="auto"'
        )
    if backend == "triton" and not suits_triton(options.bins, descriptors):
        raise ValueError(
            'backend "triton" needs the triton package, a C compiler, at most '
            f"{MAX_BINS_OF_TRITON} bins and torch.float32 descriptors on a CUDA device, got "
            f'{options.bins.num_bins} bins and {descriptors.dtype} on {device}; use backend="auto"'
        )
    if options.precision == "bf16x3" and (backend == "dense" or descriptors.dtype != torch.float32):
        raise ValueError(
            'precision "bf16x3" needs torch.float32 descriptors and a backend other than "dense", '
            f'got {descriptors.dtype} and backend "{backend}"; use precision="float32"'
        )


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


def check_scores(scores: Tensor, positive: Tensor, ignore: Tensor) -> None:
    """Refuse ``scores`` (q, n) that are not finite, and masks that are not bool of their shape."""
    if scores.dim() != 2 or not scores.is_floating_point():
        raise ValueError(
            "scores must be floating point of shape (q, n), "
            f"got {scores.dtype} of shape {tuple(scores.shape)}; pass one row per query"
        )
    for name, mask in (("positive", positive), ("ignore", ignore)):
        if mask.shape != scores.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"{name} must be bool of shape {tuple(scores.shape)} like the scores, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}; compare labels with =="
            )
        if mask.device != scores.device:
            raise ValueError(
                f"{name} must be on {scores.device} with the scores, got {mask.device}; "
                f"use {name}.to(scores.device)"
            )
    rows = (~scores.detach().isfinite()).any(dim=1).nonzero()
    if len(rows) > 0:
        raise ValueError(
            f"scores must be finite, got NaN or infinity in {len(rows)} rows, "
            f"the first is row {int(rows[0, 0])}; leave images out with ignore instead"
        )


def own_rows(rows: slice, num_images: int) -> slice:
    """``rows`` with both ends given.

    Raises:
        ValueError: the slice has a step or does not lie within the ``num_images`` rows.
    """
    start = 0 if rows.start is None else rows.start
    stop = num_images if rows.stop is None else rows.stop
    if rows.step not in (None, 1) or not 0 <= start <= stop <= num_images:
        raise ValueError(
            f"rows must be a contiguous part of the {num_images} images, got {rows}; "
            "pass slice(first, last + 1) of this worker"
        )
    return slice(start, stop)


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


def _check_rows(descriptors: Tensor, tolerance: float | None) -> None:
    norms = torch.linalg.vector_norm(descriptors, dim=1)  # (n,)
    if len(norms) == 0:
        return
    # One answer from the device where all is well; a comparison with NaN is false.
    smallest, largest = torch.stack(norms.aminmax()).tolist()
    if tolerance is None and math.isfinite(largest):
        return
    if tolerance is not None and 1 - tolerance <= smallest and largest <= 1 + tolerance:
        return
    suspects = (~norms.isfinite()).nonzero()[:, 0]
    # A finite row whose norm overflows is long, not infinite.
    broken = suspects[~descriptors[suspects].isfinite().all(dim=1)]
    if len(broken) > 0:
        raise ValueError(
            f"descriptors must be finite, got NaN or infinity in {len(broken)} rows, "
            f"the first is row {int(broken[0])}; lower the learning rate or look at that image"
        )
    if tolerance is None:
        return
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
