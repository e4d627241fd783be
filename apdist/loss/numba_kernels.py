"""Compiled inner loops of the two passes over a tile; imported only when first used.

Scores become *places*: whole numbers, counted from the best bin's centre, with a fixed power of two
to a bin. Sums of whole numbers are exact, so neither the tiles nor the threads change a histogram,
and a pair can be taken out of a sum again.

One file, because numba's cache on disk notices a change only in the file of the function it calls.

Shapes: r x c a strip of the similarity matrix, w columns of it at a time, M bins, n images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numba.extending import intrinsic

# 32 rows of 1024 places stay in the L2 cache, and 1024 terms of 2**20 do not overflow 32 bits.
ROWS_AT_ONCE = 32
TERMS_AT_ONCE = 1024

_POSITIVE, _ITSELF, _JUNK = 0, 1, 2

Function = TypeVar("Function", bound=Callable[..., Any])


class Axis(NamedTuple):
    """How a score becomes a place; every number has the type of the scores or of the places."""

    high: Any
    """Score of the first centre."""
    scale: Any
    """Places per unit of score."""
    limits: Any
    """(3,) in the scores' type: the smallest place, the largest place, one half."""
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


class Slopes(NamedTuple):
    """(M+1, n) slopes by code; 0 for the codes 0 and M, see _encode."""

    negatives: Any
    positives: Any


class Window(NamedTuple):
    """Columns left to right of a strip that starts at (row, column) of the similarity matrix."""

    row: int
    column: int
    left: int
    right: int


class Work(NamedTuple):
    """Scratch and partial sums of one window."""

    places: Any
    """(ROWS_AT_ONCE, w)."""
    row_sums: Any
    """(M, ROWS_AT_ONCE) sums of min(place, centre) over the columns."""
    column_sums: Any
    """(M, w) the same over the rows at hand."""
    below: Any
    """(M-1, w) sums of clip(place - centre, 0, 1 bin) over all rows so far."""
    rows_below: Any
    """(M-1,) rows that add a whole bin to `below` in each column, kept apart."""
    hits: Any
    """(3, w) pairs of a row that are not negatives: column, kind, code."""
    num_hits: Any
    """(ROWS_AT_ONCE + w,) of them in each row at hand, then in each column so far."""


def _compiled(function: Function) -> Function:
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        result: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:
        # Neither the package's folder nor the user's cache is writable: compile in every process.
        result = numba.njit(function, **options)
    return result


# numba widens int32 arithmetic to int64, which halves the lanes of a vector, and leaves overflow
# undefined, while the sums below overflow and come back.
def _same_type(build: Callable[[Any, Any, Any], Any]) -> Any:
    def typed(_typing: Any, a: Any, b: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return build(builder, arguments[0], arguments[1])

        return a(a, b), generate

    return intrinsic(typed)


_plus = _same_type(lambda builder, a, b: builder.add(a, b))
_minus = _same_type(lambda builder, a, b: builder.sub(a, b))
_shift_right = _same_type(lambda builder, a, b: builder.ashr(a, b))
_less = _same_type(lambda builder, a, b: builder.select(builder.icmp_signed("<", a, b), a, b))
_more = _same_type(lambda builder, a, b: builder.select(builder.icmp_signed(">", a, b), a, b))


@intrinsic
def _whole(_typing: Any, value: Any) -> Any:
    """float32 to int32, float64 to int64, towards zero."""
    integer = numba.int32 if value == numba.float32 else numba.int64

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fptosi(arguments[0], context.get_value_type(integer))

    return integer(value), generate


@_compiled
def _place(scores: Any, axis: Axis, places: Any) -> None:
    zero, last, half = axis.limits[0], axis.limits[1], axis.limits[2]
    for j in range(len(places)):
        place = (axis.high - scores[j]) * axis.scale
        place = place if place > zero else zero
        place = place if place < last else last
        places[j] = _whole(place + half)


@_compiled
def _encode(places: Any, axis: Axis, codes: Any) -> None:
    """u + 1 for a place in interval u; 0 at the first centre and M at the last, where slopes are 0."""
    one = axis.codes[1]
    for j in range(len(places)):
        codes[j] = _plus(_shift_right(places[j], axis.digits), _less(places[j], one))


@_compiled
def _range_of(values: Any) -> Any:
    low, high = values[0], values[0]
    for j in range(len(values)):
        low, high = _less(low, values[j]), _more(high, values[j])
    return low, high


@_compiled
def _find_hits(i: int, window: Window, groups: Groups, hits: Any) -> int:
    """Write column and kind of the pairs of row ``i`` that are no negatives; returns their number."""
    row, column = window.row + i, window.column + window.left
    num_hits = 0
    for k in range(
        _at_or_after(column, groups.class_order, groups.class_start[row], groups.class_stop[row]),
        groups.class_stop[row],
    ):
        j = groups.class_order[k]
        if j >= window.column + window.right:
            break
        hits[0, num_hits] = j - column
        hits[1, num_hits] = _ITSELF if j == row else _POSITIVE
        num_hits += 1
    for k in range(
        _at_or_after(column, groups.junk_order, groups.junk_start[row], groups.junk_stop[row]),
        groups.junk_stop[row],
    ):
        j = groups.junk_order[k]
        if j >= window.column + window.right:
            break
        if groups.class_start[j] != groups.class_start[row]:
            hits[0, num_hits] = j - column
            hits[1, num_hits] = _JUNK
            num_hits += 1
    return num_hits


@_compiled
def _at_or_after(value: int, order: Any, start: int, stop: int) -> int:
    """First place in the ascending run order[start:stop] that is not below ``value``."""
    while start < stop:
        middle = (start + stop) // 2
        if order[middle] < value:
            start = middle + 1
        else:
            stop = middle
    return start


# First pass: from scores to tables.


@_compiled
def bin_strip(
    scores: Any, codes: Any, origin: Any, axis: Axis, groups: Groups, mirrored: bool
) -> Any:
    """Tables of the rows of a strip, and of its columns where ``mirrored`` (else of no column).

    Args:
        scores: (r, c) similarities, r at most TERMS_AT_ONCE.
        codes: (r, c) uint8, filled with the code of each pair; or (0, 0).
        origin: row and column of the strip in the similarity matrix.
        axis: places of the scores.
        groups: positives and junk.
        mirrored: whether each pair also counts for its column.
    """
    num_bins = len(axis.centres)
    rows = _new_tables(num_bins, len(scores))
    columns = _new_tables(num_bins, scores.shape[1] if mirrored else 0)
    for left in range(0, scores.shape[1], TERMS_AT_ONCE):
        right = min(left + TERMS_AT_ONCE, scores.shape[1])
        window = Window(origin[0], origin[1], left, right)
        work = _new_work(axis, right - left)
        # What is no negative is replaced by a place that the others are likely to be near.
        _place(scores[0, right - 1 : right], axis, work.places[0])
        fill = work.places[0, 0]
        for top in range(0, len(scores), ROWS_AT_ONCE):
            height = min(ROWS_AT_ONCE, len(scores) - top)
            for i in range(height):
                _place(scores[top + i, left:right], axis, work.places[i])
                if len(codes) > 0:
                    _encode(work.places[i], axis, codes[top + i, left:right])
                _take_out(i, top, fill, (window, axis, groups), work, (rows, columns))
            first, last = _sum_block(height, axis, work)
            _add_rows(top, height, (first, last, fill), axis, work, rows)
        if mirrored:
            _add_columns(len(scores), window, fill, axis, work, columns)
    return rows, columns


@_compiled
def _new_tables(num_bins: int, size: int) -> Tables:
    return Tables(
        np.zeros((num_bins, size), np.int64),
        np.zeros((num_bins, size), np.int64),
        np.zeros((num_bins - 1, size), np.int64),
    )


@_compiled
def _new_work(axis: Axis, width: int) -> Work:
    num_bins, dtype = len(axis.centres), axis.centres.dtype
    return Work(
        np.empty((ROWS_AT_ONCE, width), dtype),
        np.empty((num_bins, ROWS_AT_ONCE), dtype),
        np.empty((num_bins, width), dtype),
        np.zeros((num_bins - 1, width), dtype),
        np.zeros(num_bins - 1, np.int64),
        np.empty((3, width), np.int64),
        np.zeros(ROWS_AT_ONCE + width, np.int64),
    )


@_compiled
def _take_out(i: int, top: int, fill: Any, context: Any, work: Work, tables: Any) -> None:
    """Move the positives of row top + ``i`` to the tables, and ``fill`` over all that is no negative."""
    window, axis, groups = context
    rows, columns = tables
    places = work.places[i]
    num_hits = _find_hits(top + i, window, groups, work.hits)
    for h in range(num_hits):
        j, kind = work.hits[0, h], work.hits[1, h]
        if kind == _POSITIVE or (kind == _ITSELF and groups.include_self):
            _add_positive(places[j], top + i, kind, axis, rows)
            if columns.counts.shape[1] > 0:
                _add_positive(places[j], window.left + j, kind, axis, columns)
        places[j] = fill
        work.num_hits[ROWS_AT_ONCE + j] += 1
    work.num_hits[i] = num_hits


@_compiled
def _add_positive(place: Any, at: int, kind: int, axis: Axis, tables: Tables) -> None:
    one = axis.centres[1]
    u = min(place >> axis.digits, len(axis.centres) - 2)
    inside = place - axis.centres[u]
    tables.positives[u, at] += one - inside
    tables.positives[u + 1, at] += inside
    if kind == _POSITIVE and 0 < place < axis.centres[len(axis.centres) - 1]:
        tables.counts[u, at] += 1


@_compiled
def _sum_block(height: int, axis: Axis, work: Work) -> Any:
    """Sum min(place, centre) over columns and over rows for the intervals first to last in use."""
    low, high = _range_of(work.places[0])
    for i in range(1, height):
        row_low, row_high = _range_of(work.places[i])
        low, high = _less(low, row_low), _more(high, row_high)
    first = low >> axis.digits
    last = min(high >> axis.digits, len(axis.centres) - 2)
    # Every place lies beyond the first of these centres.
    work.column_sums[first, :] = height * np.int64(axis.centres[first])
    work.row_sums[first, :] = work.places.shape[1] * np.int64(axis.centres[first])
    for v in range(first + 1, last + 2):
        work.column_sums[v, :] = 0
        _sum_below(height, v, axis, work)
    for u in range(first, last + 1):
        below, lower, upper = work.below[u], work.column_sums[u], work.column_sums[u + 1]
        for j in range(len(below)):
            below[j] = _plus(below[j], _minus(upper[j], lower[j]))
    for u in range(min(first, len(work.rows_below))):
        work.rows_below[u] += height
    return first, last


@_compiled
def _sum_below(height: int, v: int, axis: Axis, work: Work) -> None:
    """Four rows at a time: the columns' sums are then loaded and stored once for four pairs."""
    centre, columns, rows = axis.centres[v], work.column_sums[v], work.row_sums[v]
    zero = axis.centres[0]
    for i in range(0, height - 3, 4):
        a, b, c, d = work.places[i], work.places[i + 1], work.places[i + 2], work.places[i + 3]
        sum_a, sum_b, sum_c, sum_d = zero, zero, zero, zero
        for j in range(len(columns)):
            at_a, at_b = _less(a[j], centre), _less(b[j], centre)
            at_c, at_d = _less(c[j], centre), _less(d[j], centre)
            sum_a, sum_b = _plus(sum_a, at_a), _plus(sum_b, at_b)
            sum_c, sum_d = _plus(sum_c, at_c), _plus(sum_d, at_d)
            columns[j] = _plus(columns[j], _plus(_plus(at_a, at_b), _plus(at_c, at_d)))
        rows[i], rows[i + 1], rows[i + 2], rows[i + 3] = sum_a, sum_b, sum_c, sum_d
    for i in range(height - height % 4, height):
        a = work.places[i]
        sum_a = zero
        for j in range(len(columns)):
            at_a = _less(a[j], centre)
            sum_a = _plus(sum_a, at_a)
            columns[j] = _plus(columns[j], at_a)
        rows[i] = sum_a


@_compiled
def _add_rows(top: int, height: int, block: Any, axis: Axis, work: Work, rows: Tables) -> None:
    first, last, fill = block
    one = np.int64(axis.centres[1])
    for u in range(len(axis.centres)):
        filled = _beyond(fill, u, axis)
        for i in range(height):
            num_hits = work.num_hits[i]
            beyond = np.int64(0)
            if u < first:
                beyond = work.places.shape[1] * one
            elif u <= last:
                beyond = np.int64(_minus(work.row_sums[u + 1, i], work.row_sums[u, i]))
            num_negatives = work.places.shape[1] - num_hits
            rows.negatives[u, top + i] += num_negatives * one - (beyond - num_hits * filled)


@_compiled
def _add_columns(
    num_rows: int, window: Window, fill: Any, axis: Axis, work: Work, columns: Tables
) -> None:
    one = np.int64(axis.centres[1])
    for u in range(len(axis.centres)):
        filled = _beyond(fill, u, axis)
        for j in range(work.places.shape[1]):
            num_hits = work.num_hits[ROWS_AT_ONCE + j]
            beyond = np.int64(0)
            if u < len(work.below):
                beyond = work.rows_below[u] * one + np.int64(work.below[u, j])
            columns.negatives[u, window.left + j] += (num_rows - num_hits) * one - (
                beyond - num_hits * filled
            )


@_compiled
def _beyond(place: Any, u: int, axis: Axis) -> int:
    """How far ``place`` lies beyond centre u, up to one bin; beyond the last centre is nothing."""
    if u == len(axis.centres) - 1:
        return np.int64(0)
    return min(max(np.int64(place) - axis.centres[u], 0), np.int64(axis.centres[1]))


# Second pass: from scores to slopes.


@_compiled
def slope_strip(
    scores: Any, codes: Any, origin: Any, axis: Axis, groups: Groups, slopes: Slopes
) -> None:
    """Replace the ``scores`` (r, c) of a strip by g_ij + g_ji, the slopes of both of its queries.

    With ``codes`` (r, c) of the first pass instead of (0, 0), ``scores`` is only written to.
    """
    num_rows, num_columns = scores.shape
    for left in range(0, num_columns, TERMS_AT_ONCE):
        right = min(left + TERMS_AT_ONCE, num_columns)
        window = Window(origin[0], origin[1], left, right)
        values = np.empty(right - left, axis.codes.dtype)
        hits = np.empty((3, right - left), np.int64)
        for i in range(num_rows):
            out = scores[i, left:right]
            if len(codes) > 0:
                _copy(codes[i, left:right], values)
            else:
                _place(out, axis, values)
                _encode(values, axis, values)
            fill = values[len(values) - 1]
            num_hits = _find_hits(i, window, groups, hits)
            for h in range(num_hits):
                hits[2, h] = values[hits[0, h]]
                values[hits[0, h]] = fill
            _look_up(i, values, window, axis, slopes.negatives, out)
            _overwrite(i, hits[:, :num_hits], window, slopes.positives, out)


@_compiled
def _copy(codes: Any, values: Any) -> None:
    for j in range(len(values)):
        values[j] = codes[j]


@_compiled
def _look_up(i: int, values: Any, window: Window, axis: Axis, table: Any, out: Any) -> None:
    """Slopes of negatives. A step up per code beats a gather; four steps share a load and a store."""
    row, column = window.row + i, window.column + window.left
    low, high = _range_of(values)
    here, there = table[low, row], table[low, column : column + len(out)]
    for j in range(len(out)):
        out[j] = here + there[j]
    beyond = len(table) - 1
    for k in range(low + 1, high + 1, 4):
        at_b, at_c, at_d = min(k + 1, beyond), min(k + 2, beyond), min(k + 3, beyond)
        a, b, c, d = table[k, row], table[at_b, row], table[at_c, row], table[at_d, row]
        there_a = table[k, column : column + len(out)]
        there_b = table[at_b, column : column + len(out)]
        there_c = table[at_c, column : column + len(out)]
        there_d = table[at_d, column : column + len(out)]
        from_a, from_b = axis.codes[k], axis.codes[k + 1]
        from_c, from_d = axis.codes[k + 2], axis.codes[k + 3]
        for j in range(len(out)):
            code, slope = values[j], out[j]
            slope = a + there_a[j] if code >= from_a else slope
            slope = b + there_b[j] if code >= from_b else slope
            slope = c + there_c[j] if code >= from_c else slope
            slope = d + there_d[j] if code >= from_d else slope
            out[j] = slope


@_compiled
def _overwrite(i: int, hits: Any, window: Window, table: Any, out: Any) -> None:
    """Slopes of positives; 0 for junk, and for an image itself, whose similarity is a constant."""
    row, column = window.row + i, window.column + window.left
    for h in range(hits.shape[1]):
        j, kind, code = hits[0, h], hits[1, h], hits[2, h]
        if kind == _POSITIVE:
            out[j] = table[code, row] + table[code, column + j]
        else:
            out[j] = 0
