"""A network as a program of torch.export, whose sizes of images may vary, or a line why not.

Shapes: n images, h x w pixels.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.export import Dim, ExportedProgram

if TYPE_CHECKING:
    from apdist.export.graph import PixelsToDescriptors

LARGEST_SIDE = 1 << 15
"""Of images whose shape is fixed, in pixels."""


def traced(module: PixelsToDescriptors, shape: tuple[int, ...] = ()) -> ExportedProgram:
    """``module`` as a program of pixels (n, h, w, 3), any n.

    Args:
        module: in evaluation mode, on the CPU.
        shape: h and w of all images; empty: any.

    Raises:
        ValueError: its code does what no program of torch.export can do.
    """
    refuse_shape(shape)
    # No two sizes alike, and none that a network could be made for: none of them may be kept.
    height, width = shape or (module.fit.side + 21, module.fit.side + 39)
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    varying = {0: Dim("n", min=1)}
    if not shape:
        varying |= {1: Dim("h", min=1), 2: Dim("w", min=1)}
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(module, (example,), dynamic_shapes=(varying,))
    except Exception as error:  # whatever the code of a network meets while it is traced
        remedy = "" if shape else "; fix the shape of images: --shape HEIGHT WIDTH"
        raise ValueError(
            f"torch.export cannot hold {module.network.config.backbone} with pooling "
            f"{module.network.pooling_name} ({first_line(error)}){remedy}"
        ) from error


def refuse_shape(shape: tuple[int, ...]) -> None:
    """Raise unless ``shape`` is empty, or height and width.

    Raises:
        ValueError: it is neither.
    """
    if shape and (len(shape) != 2 or not all(0 < side <= LARGEST_SIDE for side in shape)):
        raise ValueError(
            f"--shape: expected height and width, each from 1 to {LARGEST_SIDE} pixels, as "
            f"480 640; got {' '.join(map(str, shape))}"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """What torch's exporters warn and tell of is theirs."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def first_line(error: BaseException) -> str:
    """What an exception says first, or its name."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
