"""Arrays and numbers as a person gives them: tensors, NumPy arrays, lists; or refused in a line.

What says clearly what is meant is taken. What could be meant otherwise is refused in our own words:
floats where rows are named, a truth value for a number, a matrix the wrong way round.

Shapes: n rows, d descriptor size.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
"""Numbers in any of these forms."""
LONGEST = 1e18
"""Length of a descriptor whose product with another one still is a float32."""
UNIT_TOLERANCE = 1e-2
"""How far a length may be from 1; half precision keeps three digits of it."""


def tensor_of(name: str, value: Array) -> Tensor:
    """``value`` as a tensor, where it lies.

    Raises:
        ValueError: it holds something else than numbers, or rows of different lengths.
    """
    if isinstance(value, Tensor):
        return value.detach()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"it holds {array.dtype}")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch can do little with them
            if array.size and int(array.max()) > np.iinfo(np.int64).max:
                raise TypeError("a number does not fit 64 bits")
            array = array.astype(np.int64)
        # Torch wraps no array that is read-only (Arrow's are), of negative strides, or of another
        # machine's byte order.
        native = array.dtype.newbyteorder("=")
        return torch.from_numpy(np.require(array.astype(native, copy=False), None, ["C", "W"]))
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{name}: expected an array of numbers ({reason})") from error


def descriptors_of(name: str, value: Array, *, unit: bool = False, least: int = 0) -> Tensor:
    """Descriptors (n, d) of finite numbers, in their own precision.

    Args:
        name: for messages.
        value: the descriptors.
        unit: whether their lengths have to be 1.
        least: smallest n.

    Raises:
        ValueError: another shape, no numbers, or one that nothing can be ranked with.
    """
    found = tensor_of(name, value)
    if found.dim() != 2 or len(found) < least or not found.shape[1]:
        rows = f", n >= {least}" if least else ""
        raise ValueError(f"{name}: expected descriptors (n, d){rows}, got {shape_of(found)}")
    if found.dtype == torch.bool or found.is_complex():
        raise ValueError(f"{name}: descriptors must be real numbers, got {found.dtype}")
    if not found.is_floating_point():
        found = found.float()
    halves = found.dtype in (torch.float16, torch.bfloat16)
    # A row that is not finite has no finite length: its numbers need not be looked at one by one.
    lengths = torch.linalg.vector_norm(found.float() if halves else found, dim=1)
    suspects = (~(lengths <= LONGEST)).nonzero()[:, 0]
    broken = suspects[~found[suspects].isfinite().all(dim=1)]
    _refuse_rows(name, broken, len(found), "hold NaN or infinity; check the model they are of")
    _refuse_rows(name, suspects, len(found), f"are longer than {LONGEST:g}; L2-normalise them")
    if unit:
        wrong = ((lengths - 1).abs() > UNIT_TOLERANCE).nonzero()[:, 0]
        _refuse_rows(name, wrong, len(found), "are not of unit length; L2-normalise them")
    return found


def descriptor_parts_of(name: str, parts: Array | Iterable[Array]) -> Iterable[Array]:
    """Descriptor matrices (m, d), part by part; one matrix by itself is a single part.

    Raises:
        ValueError: there is nothing that has parts.
    """
    if isinstance(parts, Tensor | np.ndarray) and parts.ndim == 2:
        return [parts]
    if isinstance(parts, str | bytes) or not hasattr(parts, "__iter__"):
        raise ValueError(f"{name} must be descriptors part by part, got {shown(parts)}")
    return parts


def same_width(names: tuple[str, str], first: Tensor, second: Tensor) -> None:
    """Raise unless both are rows of the same descriptor size.

    Raises:
        ValueError: they are not.
    """
    if first.dim() != 2 or second.dim() != 2:
        raise ValueError(
            f"{names[0]} and {names[1]}: expected descriptors (q, d) and (n, d), got "
            f"{shape_of(first)} and {shape_of(second)}"
        )
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{names[0]} have {first.shape[1]} dimensions, {names[1]} {second.shape[1]}; describe "
            "both with one model"
        )


def labels_of(name: str, value: Array, count: int) -> Tensor:
    """Labels (n,) as int64, one of each of ``count`` images.

    Raises:
        ValueError: another shape, or no whole numbers.
    """
    found = tensor_of(name, value)
    if found.shape != (count,):
        raise ValueError(f"{name}: expected ({count},), one a descriptor, got {shape_of(found)}")
    if found.is_floating_point() or found.is_complex():
        raise ValueError(f"{name}: labels must be integers, got {found.dtype}; convert them")
    return found.long()


def rows_of(name: str, value: Array, count: int) -> NDArray[np.int64]:
    """Rows (k,) of ``count`` images, each named at most once.

    -1 at the end is no row: searches fill lists with it that came out short.

    Raises:
        ValueError: another shape, no whole numbers, a row that is not there, or one named twice.
    """
    found = tensor_of(name, value).cpu()
    if found.dim() != 1:
        raise ValueError(f"{name}: expected a list of rows (k,), got {shape_of(found)}")
    if len(found) and (found.is_floating_point() or found.dtype == torch.bool):
        raise ValueError(f"{name}: rows must be integers, got {found.dtype}")
    rows = found.numpy().astype(np.int64)
    listed = np.flatnonzero(rows != -1)
    rows = rows[: listed[-1] + 1 if len(listed) else 0]
    wrong = rows[(rows < 0) | (rows >= count)]
    if len(wrong):
        raise ValueError(f"{name}: there are rows 0 to {count - 1}, got {wrong[0]}")
    values, times = np.unique(rows, return_counts=True)
    if len(values) < len(rows):
        raise ValueError(f"{name}: names row {values[times > 1][0]} twice")
    return rows


def count_of(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``; NumPy's and a tensor's own count as well.

    Raises:
        ValueError: it is none.
    """
    try:
        if isinstance(value, bool | np.bool_) or (
            isinstance(value, Tensor) and value.dtype == torch.bool
        ):
            raise TypeError
        found = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be a whole number, got {shown(value)}") from error
    if found < least or (most is not None and found > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, got {shown(found)}")
    return found


def counts_of(name: str, value: Any, least: int = 1) -> tuple[int, ...]:
    """Whole numbers of ``least`` or more, none of them twice.

    Raises:
        ValueError: they are none.
    """
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise ValueError(f"{name} must be several whole numbers, as (1, 5), got {shown(value)}")
    found = tuple(count_of(name, one, least) for one in value)
    if len(set(found)) < len(found):
        raise ValueError(f"{name} names a number twice: {shown(found)}")
    return found


def number_of(name: str, value: Any, least: float, most: float = float("inf")) -> float:
    """A finite number from ``least`` to ``most``.

    Raises:
        ValueError: it is none.
    """
    try:
        if isinstance(value, bool | np.bool_ | str | bytes):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a number, got {shown(value)}") from error
    if not least <= found <= most or found == float("inf"):
        bounds = f"at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {bounds}, got {found:g}")
    return found


def shown(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        return f"{type(value).__name__} {tuple(value.shape)}"
    return f"{value!r:.60}"


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape, as a person writes it."""
    return tuple(tensor.shape)


def _refuse_rows(name: str, rows: Tensor, count: int, what: str) -> None:
    if len(rows):
        told, _, remedy = what.partition("; ")
        raise ValueError(
            f"{name}: {len(rows)} of {count} descriptors {told} (first row: {int(rows[0])}); "
            f"{remedy}"
        )
