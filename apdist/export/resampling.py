"""Pillow's resampling as two products of matrices, so that a graph of tensors can hold it.

Pillow resamples columns first and then rows, and rounds to whole levels after each; from version 13
on rows first where an image loses more than twice as many rows as columns, which moves some levels.
A pixel of the result is a weighted mean of pixels of the image; the weights depend on the sizes.

Shapes: n images, h x w pixels, l pixels of a side before and k after.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import PIL
import torch
from torch import Tensor

from apdist.data.images import Fit

TAKES_ROWS_FIRST = int(PIL.__version__.partition(".")[0]) >= 13
"""Whether the Pillow that is here takes rows before columns where far more of them go."""
Length = Any
"""A number of pixels, or what stands for it while a graph is made (`torch.SymInt`)."""


def resampled(pixels: Tensor, fit: Fit) -> Tensor:
    """What a network sees of ``pixels`` (n, h, w, 3) of any size, (n, 3, h', w') float, 0 to 255.

    The slow definition is `apdist.data.images.evaluation_image`, of an image that is decoded.
    """
    height, width = pixels.shape[1:3]
    new_width, new_height = _size(fit, width, height)
    inner: tuple[Length, Length] = (height, width)
    if fit.resize == "crop":
        shorter = torch.sym_min(height, width)  # `ImageOps.fit`: the square in the middle
        inner = (shorter, shorter)
    columns = resampling_weights(width, inner[1], new_width, fit.interpolation, pixels.device)
    rows = resampling_weights(height, inner[0], new_height, fit.interpolation, pixels.device)
    levels = pixels.permute(0, 3, 1, 2).to(columns.dtype)  # (n, 3, h, w)
    turned = columns.T.contiguous()
    fewer = height - new_height, torch.sym_max(width - new_width, 0)
    return _in_order(fewer, (levels, rows, turned), fit.resize == "crop")  # (n, 3, h', w')


def _in_order(
    fewer: tuple[Length, Length], given: tuple[Tensor, Tensor, Tensor], is_known: bool
) -> Tensor:
    """Both products in the order that Pillow takes.

    Args:
        fewer: rows and columns that the result has less.
        given: levels, weights of rows and of columns.
        is_known: whether the size of the result is, before the graph runs.
    """
    rows_first = TAKES_ROWS_FIRST and fewer[0] > 2 * fewer[1]
    if isinstance(rows_first, bool):
        return _rows_first(*given) if rows_first else _columns_first(*given)
    if is_known:
        found: Tensor = torch.cond(rows_first, _rows_first, _columns_first, given)
        return found
    # torch.cond takes no sizes that are found as the graph runs: both are computed.
    decided = _number(fewer[0]) > 2 * _number(fewer[1])
    return torch.where(decided, _rows_first(*given), _columns_first(*given))


def _columns_first(levels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """By weights of rows (h', h) and of columns (w, w')."""
    return _whole(rows @ _whole(levels @ columns))


def _rows_first(levels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return _whole(_whole(rows @ levels) @ columns)


def resampling_weights(
    length: Length, inner: Length, new: Length, interpolation: str, device: torch.device
) -> Tensor:
    """Weights (k, l) of the pixels of a side in those of the resampled side; rows sum to 1.

    Args:
        length: l.
        inner: pixels in the middle of the side that are resampled.
        new: k.
        interpolation: a name of Pillow's filters.
        device: where they are computed.
    """
    source, target = (torch.arange(count, device=device) for count in (length, new))
    # Distances of centres in units of 1 / (2 new) pixels are whole: no rounding moves a weight.
    centres = (length - inner) * new + (2 * target + 1) * inner  # (k,)
    distances = (2 * source + 1) * new - centres[:, None]  # (k, l)
    if interpolation == "nearest":
        nearest: Tensor = ((distances > -new) & (distances <= new)).float()
        return nearest
    # Where an image gets smaller the filter gets wider, so that every pixel counts.
    reach = 2 * torch.sym_max(inner, new)
    weights = FILTERS[interpolation](distances.float() / reach)
    normed: Tensor = weights / weights.sum(dim=1, keepdim=True)
    return normed


def scaled(images: Tensor, scale: float, multiple: int = 1) -> Tensor:
    """`apdist.retrieval.recipe.at_scale` of ``images`` (n, 3, h, w), float in [0, 1]."""
    if scale == 1:
        return images
    rows, columns = (_scaling_weights(side, scale, multiple, images) for side in images.shape[2:])
    return rows @ (images @ columns.T)


def _scaling_weights(length: Length, scale: float, multiple: int, like: Tensor) -> Tensor:
    """Bilinear weights (k, l) of a side at ``scale``, not smoothed."""
    new = _scaled_length(length, scale, multiple)
    ratio = 1 / scale if multiple == 1 else length / new
    target, source = (torch.arange(count, device=like.device) for count in (new, length))
    places = (ratio * (target + 0.5) - 0.5).clamp(min=0).minimum(source[-1:].to(like.dtype))  # (k,)
    weights: Tensor = (1 - (places[:, None] - source).abs()).clamp(min=0)  # (k, l)
    return weights


def _scaled_length(length: Length, scale: float, multiple: int) -> Length:
    if isinstance(length, int):
        near = math.floor(length * scale) if multiple == 1 else round(length * scale / multiple)
        return max(1, near) * multiple
    exact = _number(length) * scale / multiple
    return _whole_number(exact.floor() if multiple == 1 else exact.round()) * multiple


def _size(fit: Fit, width: Length, height: Length) -> tuple[Length, Length]:
    """`Fit.size`, of numbers that may be symbols."""
    if isinstance(width, int) and isinstance(height, int):
        return fit.size(width, height)
    if fit.resize == "crop":
        return fit.side, fit.side
    sides = torch.stack((_number(width), _number(height)))
    scale = fit.side / sides.amax(dim=0)
    if fit.resize == "shrink":
        scale = scale.clamp(max=1.0)
    lengths = (sides * scale).clamp(min=float(fit.least))
    new_width, new_height = (lengths / fit.multiple).round()
    return _whole_number(new_width) * fit.multiple, _whole_number(new_height) * fit.multiple


def _number(length: Length) -> Tensor:
    # In double precision, as Python has it: halves would be rounded in another direction.
    return torch.scalar_tensor(length, dtype=torch.float64)


def _whole_number(value: Tensor) -> Length:
    """``value`` as a length of at least 1, which the graph computes anew for each image."""
    found: Length = value.clamp(min=1).long().item()
    torch._check(found >= 1)
    return found


def _whole(levels: Tensor) -> Tensor:
    return (levels + 0.5).floor().clamp(0, 255)


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(x.dtype)


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _hamming(x: Tensor) -> Tensor:
    window = 0.54 + 0.46 * torch.cos(math.pi * x)
    return torch.where(x.abs() < 1, _sinc(x) * window, torch.zeros_like(x))


def _bicubic(x: Tensor) -> Tensor:
    a, x = -0.5, x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, _sinc(x) * _sinc(x / 3), torch.zeros_like(x))


def _sinc(x: Tensor) -> Tensor:
    turned = math.pi * torch.where(x == 0, torch.ones_like(x), x)
    return torch.where(x == 0, torch.ones_like(x), torch.sin(turned) / turned)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "box": _box,
    "bilinear": _bilinear,
    "hamming": _hamming,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
}
"""Weight by distance, in pixels of the smaller of image and result."""
