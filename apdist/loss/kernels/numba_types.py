"""What the compiled kernels take and return.

Shapes: r rows of a strip of the similarity matrix, w columns of it at a time, M bins, n images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba

POSITIVE, POSITIVE_ITSELF, LEFT_OUT = 0, 1, 2

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, fastmath: Any = False) -> Function:
    """``function`` as machine code, kept on disk, that lets other threads run."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        result = numba.njit(function, cache=True, **options)
    except RuntimeError:
        # Neither the package's folder nor the user's cache is writable: compile in every process.
        result = numba.njit(function, **options)
    return cast(Function, result)


class Axis(NamedTuple):
    """How a score becomes a place; every number has the type of the scores or of the places."""

    high: Any
    """Score of the first centre."""
    scale: Any
    """Places per unit of score."""
    smallest: Any
    """0 in the scores' type."""
    largest: Any
    """Place of the last centre in the scores' type."""
    centres: Any
    """(M,) places of the bin centres."""
    digits: Any
    """Binary digits of a place within its interval."""
    codes: Any
    """(M+5,) 0, 1, 2, ..."""


class Groups(NamedTuple):
    """Images of one class, and of one ignore id, as runs of a sorted order; all int64."""

    class_order: Any
    class_start: Any
    class_stop: Any
    junk_order: Any
    junk_start: Any
    junk_stop: Any
    include_self: bool


class Tables(NamedTuple):
    """Sums over the pairs of r rows, or of as many columns; int64."""

    negatives: Any
    """(M, r) cumulative histogram, in places."""
    positives: Any
    """(M, r) histogram, in places, not cumulative."""
    counts: Any
    """(M-1, r) positives by interval, an image itself not among them."""
    num_hits: Any
    """(r,) pairs that are no negatives."""


class Slopes(NamedTuple):
    """(M+1, n) slopes by code; 0 for the codes 0 and M, see the kernels."""

    negatives: Any
    positives: Any


class Hits(NamedTuple):
    """The pairs of a strip that are no negatives, row by row."""

    start: Any
    """(r + 1,) int64: those of row i are start[i] to start[i + 1]."""
    columns: Any
    """Column within the strip, int32."""
    kinds: Any
    """POSITIVE, POSITIVE_ITSELF or LEFT_OUT, int8."""


class Work(NamedTuple):
    """Scratch and partial sums of w columns."""

    places: Any
    """(32, w)."""
    row_sums: Any
    """(M, 32) sums of min(place, centre) over the columns."""
    column_sums: Any
    """(M, w) the same over the rows at hand."""
    below: Any
    """(M-1, w) sums of clip(place - centre, 0, 1 bin) over all rows so far."""
    rows_below: Any
    """(M-1,) rows that add a whole bin to `below` in each column, kept apart."""
