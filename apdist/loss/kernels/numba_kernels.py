"""Compiled inner loops of the two passes over a tile; imported only when first used.

Scores become *places*: whole numbers, counted from the best bin's centre, with a fixed power of two
to a bin. Sums of whole numbers are exact, so neither the tiles nor the threads change a histogram,
and a pair can be taken out of a sum again.

Both passes are in one file, since numba's cache on disk watches the file of the function that it
calls, and not the files of the functions called by that.

Shapes: r x c a strip of the similarity matrix, w columns of it at a time, M bins, n images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from apdist.loss.kernels.numba_types import (
    LEFT_OUT,
    POSITIVE,
    Axis,
    Hits,
    Slopes,
    Tables,
    Work,
    compiled,
)

# 32 rows of 1024 places stay in the L2 cache, and 1024 terms of 2**20 do not overflow 32 bits.
ROWS_AT_ONCE = 32
TERMS_AT_ONCE = 1024


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
def _nearest_whole(_typing: Any, value: Any) -> Any:
    """float32 to int32, float64 to int64."""
    integer = numba.int32 if value == numba.float32 else numba.int64

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        real = context.get_value_type(value)
        # Adding 0.5 and cutting off would round up above 2**23, where float32 has no fractions.
        rounded = builder.call(builder.module.declare_intrinsic("llvm.rint", (real,)), arguments)
        return builder.fptosi(rounded, context.get_value_type(integer))

    return integer(value), generate


_whole: Any = _nearest_whole


@compiled
def _place(scores: Any, axis: Axis, places: Any) -> None:
    for j in range(len(places)):
        places[j] = _place_of(scores[j], axis)


@compiled
def _place_of(score: Any, axis: Axis) -> Any:
    place = (axis.high - score) * axis.scale
    place = place if place > axis.smallest else axis.smallest
    place = place if place < axis.largest else axis.largest
    return _whole(place)


@compiled
def _encode(places: Any, axis: Axis, codes: Any) -> None:
    for j in range(len(places)):
        codes[j] = _code_of(places[j], axis)


@compiled
def _code_of(place: Any, axis: Axis) -> Any:
    """Interval u of a place, plus 1; 0 at the first centre and M at the last, of slope 0."""
    return _plus(_shift_right(place, axis.digits), _less(place, axis.codes[1]))


@compiled
def _range_of(values: Any) -> Any:
    low, high = values[0], values[0]
    for j in range(len(values)):
        low, high = _less(low, values[j]), _more(high, values[j])
    return low, high


# First pass: from scores to tables.


@compiled
def bin_strip(scores: Any, codes: Any, hits: Hits, axis: Axis, mirrored: bool) -> Any:
    """Tables of the rows of a strip, and of its columns where ``mirrored`` (else of no column).

    Args:
        scores: (r, c) similarities, r at most TERMS_AT_ONCE.
        codes: (r, c) uint8, filled with the code of each pair; or (0, 0).
        hits: the pairs that are no negatives.
        axis: places of the scores.
        mirrored: whether each pair also counts for its column.
    """
    num_bins, num_columns = len(axis.centres), scores.shape[1]
    rows = _new_tables(num_bins, len(scores))
    columns = _new_tables(num_bins, num_columns if mirrored else 0)
    # What is no negative is replaced by a place that the others are likely to be near.
    fill = _place_of(scores[0, num_columns - 1], axis)
    for left in range(0, num_columns, TERMS_AT_ONCE):
        right = min(left + TERMS_AT_ONCE, num_columns)
        work = _new_work(axis, right - left)
        for top in range(0, len(scores), ROWS_AT_ONCE):
            height = min(ROWS_AT_ONCE, len(scores) - top)
            for i in range(height):
                _place(scores[top + i, left:right], axis, work.places[i])
                if len(codes) > 0:
                    _encode(work.places[i], axis, codes[top + i, left:right])
            _take_out((top, height, left), work.places, fill, hits, axis, (rows, columns))
            first, last = _sum_block(height, axis, work)
            _add_rows(top, height, (first, last), axis, work, rows)
        if mirrored:
            _add_columns(len(scores), left, axis, work, columns)
    _take_back(fill, axis, rows)
    _take_back(fill, axis, columns)
    return rows, columns


@compiled
def _new_tables(num_bins: int, size: int) -> Tables:
    return Tables(
        np.zeros((num_bins, size), np.int64),
        np.zeros((num_bins, size), np.int64),
        np.zeros((num_bins - 1, size), np.int64),
        np.zeros(size, np.int64),
    )


@compiled
def _new_work(axis: Axis, width: int) -> Work:
    num_bins, dtype = len(axis.centres), axis.centres.dtype
    return Work(
        np.empty((ROWS_AT_ONCE, width), dtype),
        np.empty((num_bins, ROWS_AT_ONCE), dtype),
        np.empty((num_bins, width), dtype),
        np.zeros((num_bins - 1, width), dtype),
        np.zeros(num_bins - 1, np.int64),
    )


@compiled
def _take_out(block: Any, places: Any, fill: Any, hits: Hits, axis: Axis, tables: Any) -> None:
    """Move positives of a block to the tables, and put ``fill`` over all that is no negative."""
    top, height, left = block
    rows, columns = tables
    mirrored = len(columns.num_hits) > 0
    for i in range(height):
        for h in range(hits.start[top + i], hits.start[top + i + 1]):
            j, kind = hits.columns[h] - left, hits.kinds[h]
            if not 0 <= j < places.shape[1]:
                continue
            if kind != LEFT_OUT:
                _add_positive(places[i, j], top + i, kind, axis, rows)
                if mirrored:
                    _add_positive(places[i, j], left + j, kind, axis, columns)
            places[i, j] = fill
            rows.num_hits[top + i] += 1
            if mirrored:
                columns.num_hits[left + j] += 1


@compiled
def _add_positive(place: Any, at: int, kind: int, axis: Axis, tables: Tables) -> None:
    one = axis.centres[1]
    u = min(place >> axis.digits, len(axis.centres) - 2)
    inside = place - axis.centres[u]
    tables.positives[u, at] += one - inside
    tables.positives[u + 1, at] += inside
    if kind == POSITIVE and 0 < place < axis.centres[len(axis.centres) - 1]:
        tables.counts[u, at] += 1


@compiled
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


@compiled
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


@compiled
def _add_rows(top: int, height: int, span: Any, axis: Axis, work: Work, rows: Tables) -> None:
    first, last = span
    whole = work.places.shape[1] * np.int64(axis.centres[1])
    for u in range(first, len(axis.centres)):
        out = rows.negatives[u, top : top + height]
        if u <= last:
            lower, upper = work.row_sums[u], work.row_sums[u + 1]
            for i in range(height):
                out[i] += whole - _minus(upper[i], lower[i])
        else:
            out += whole


@compiled
def _add_columns(num_rows: int, left: int, axis: Axis, work: Work, columns: Tables) -> None:
    one = np.int64(axis.centres[1])
    for u in range(len(axis.centres)):
        out = columns.negatives[u, left : left + work.places.shape[1]]
        if u < len(work.below):
            below, whole = work.below[u], (num_rows - work.rows_below[u]) * one
            for j in range(len(out)):
                out[j] += whole - below[j]
        else:
            out += num_rows * one


@compiled
def _take_back(fill: Any, axis: Axis, tables: Tables) -> None:
    """Subtract what ``fill`` added in place of the pairs that are no negatives."""
    one = np.int64(axis.centres[1])
    for u in range(len(axis.centres)):
        beyond = min(max(np.int64(fill) - axis.centres[u], 0), one)
        if u == len(axis.centres) - 1:
            beyond = 0
        out = tables.negatives[u]
        for i in range(len(out)):
            out[i] -= tables.num_hits[i] * (one - beyond)


# Second pass: from scores to slopes.


@compiled
def slope_strip(
    scores: Any, codes: Any, hits: Hits, axis: Axis, slopes: Slopes, origin: Any
) -> None:
    """Replace the ``scores`` (r, c) of a strip by g_ij + g_ji, the slopes of both of its queries.

    With ``codes`` (r, c) of the first pass instead of (0, 0), ``scores`` is only written to. The
    strip starts at ``origin`` (row, column) of the similarity matrix.
    """
    num_columns = scores.shape[1]
    codes_of_hits = np.empty(len(hits.columns), axis.codes.dtype)
    for left in range(0, num_columns, TERMS_AT_ONCE):
        right = min(left + TERMS_AT_ONCE, num_columns)
        values = np.empty(right - left, axis.codes.dtype)
        for i in range(len(scores)):
            out = scores[i, left:right]
            if len(codes) > 0:
                _copy(codes[i, left:right], values)
            else:
                _place_and_encode(out, axis, values)
            fill = values[len(values) - 1]
            for h in range(hits.start[i], hits.start[i + 1]):
                j = hits.columns[h] - left
                if 0 <= j < len(values):
                    codes_of_hits[h] = values[j]
                    values[j] = fill
            _look_up(values, axis, slopes.negatives, (origin[0] + i, origin[1] + left), out)
    _overwrite(hits, codes_of_hits, slopes.positives, origin, scores)


@compiled
def _place_and_encode(scores: Any, axis: Axis, values: Any) -> None:
    for j in range(len(values)):
        values[j] = _code_of(_place_of(scores[j], axis), axis)


@compiled
def _copy(codes: Any, values: Any) -> None:
    for j in range(len(values)):
        values[j] = codes[j]


@compiled
def _look_up(values: Any, axis: Axis, table: Any, origin: Any, out: Any) -> None:
    """Slopes of negatives: a step per code in use beats a gather; four steps share a store."""
    row, column = origin
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


@compiled
def _overwrite(hits: Hits, codes: Any, table: Any, origin: Any, out: Any) -> None:
    """Slopes of positives; 0 for junk, and for an image itself, whose similarity is a constant."""
    row, column = origin
    for i in range(len(out)):
        for h in range(hits.start[i], hits.start[i + 1]):
            j, code = hits.columns[h], codes[h]
            if hits.kinds[h] == POSITIVE:
                out[i, j] = table[code, row + i] + table[code, column + j]
            else:
                out[i, j] = 0
