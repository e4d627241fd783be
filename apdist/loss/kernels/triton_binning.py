"""Triton kernels of the first pass: histograms of the rows and of the columns of a tile.

A thread keeps one sum for each of its scores and bins and goes over the scores in a fixed order;
the sums of a line are added up once, at its end. There are no atomics and no barrier between two
loads, and the same batch gives the same bits.

`bin_rows` and `bin_columns` count every pair of a tile, whatever its images; `bin_related` looks at
the few blocks with positives, junk or the image itself, and puts that right.

Shapes: a tile has r rows and c columns, ``stride`` between its rows; M bins, of which a program has
B; n images.
"""

from __future__ import annotations

import triton.language as tl

from apdist.loss.kernels.triton_axis import codes_of, kernel, places_of, relation


@kernel
def _zeros(num_bins: tl.constexpr, num_lines: tl.constexpr, num_others: tl.constexpr) -> tl.tuple:
    """A tensor of zeros for each bin; Triton knows no unpacking of tuples."""
    sums = ()
    for _ in tl.static_range(num_bins):
        zeros = tl.zeros((num_lines, num_others), tl.float32)
        sums = sums + (zeros,)  # type: ignore[assignment]  # noqa: RUF005
    return sums


@kernel
def _add_shares(sums: tl.tuple, reach: tl.tensor, folded: tl.constexpr) -> tl.tuple:
    """Add clip(reach + k, 0, 1) to the k-th of ``sums``, ``folded`` neighbours into one."""
    added = ()
    for k in tl.static_range(len(sums)):
        share = tl.clamp(reach + k, 0.0, 1.0)
        if folded > 1:
            share = _sums_of_neighbours(share, folded)
        added = added + (sums[k] + share,)  # type: ignore[assignment]  # noqa: RUF005
    return added


@kernel
def _sums_of_neighbours(shares: tl.tensor, folded: tl.constexpr) -> tl.tensor:
    """(l, o / folded) sums of neighbours in a row, which one thread loads: it needs no other."""
    lines: tl.constexpr = shares.shape[0]
    width: tl.constexpr = shares.shape[1] // folded
    return tl.sum(tl.reshape(shares, (lines, width, folded)), axis=2)


@kernel
def _flush(
    sums: tl.tuple,
    table: tl.tensor,
    lines: tl.tensor,
    num_lines: tl.tensor,
    first_bin: tl.tensor,
    num_bins: tl.constexpr,
    axis: tl.constexpr,
) -> None:
    """Add the ``sums`` over an ``axis`` to the float64 ``table`` (l, M) of the ``lines``."""
    for k in tl.static_range(len(sums)):
        at = table + lines.to(tl.int64) * num_bins + first_bin + k
        # The last entry is the number of pairs. What two numbers compare to is no mask to every
        # version of the interpreter, so the number of lines says which are owned.
        owned = lines < tl.where(first_bin + k < num_bins - 1, num_lines, 0)
        total = tl.sum(sums[k].to(tl.float64), axis=axis)
        tl.store(at, tl.load(at, mask=owned) + total, mask=owned)


@kernel
def _count_others(
    table: tl.tensor,
    lines: tl.tensor,
    num_lines: tl.tensor,
    num_others: tl.tensor,
    num_bins: tl.constexpr,
) -> None:
    """Add ``num_others`` to the last entry of the ``lines`` of a ``table`` (l, M), once."""
    at = table + lines.to(tl.int64) * num_bins + num_bins - 1
    owned = lines < tl.where(tl.program_id(1) == 0, num_lines, 0)
    tl.store(at, tl.load(at, mask=owned) + num_others, mask=owned)


@kernel
def bin_rows(
    scores: tl.tensor,
    codes: tl.tensor,
    everything: tl.tensor,
    num_rows: tl.tensor,
    num_columns: tl.tensor,
    stride: tl.tensor,
    high: tl.tensor,
    scale: tl.tensor,
    num_bins: tl.constexpr,
    bins_at_once: tl.constexpr,
    keep_codes: tl.constexpr,
    rows_at_once: tl.constexpr,
    columns_at_once: tl.constexpr,
    columns_a_sum: tl.constexpr,
) -> None:
    """Add the ``scores`` of a tile to the histograms of its rows.

    Grid: blocks of rows, parts of the bins.

    Args:
        scores: (r, c) float32.
        codes: (r, c) uint8 laid out like the scores, written if ``keep_codes``.
        everything: (r, M) float64, added to.
        num_rows: r.
        num_columns: c.
        stride: between rows, a multiple of 16.
        high: score of the first centre.
        scale: bins per unit of score.
        num_bins: M.
        bins_at_once: B.
        keep_codes: whether codes are written.
        rows_at_once: rows of a program.
        columns_at_once: columns that it loads at a time.
        columns_a_sum: columns that go into a float32 sum.
    """
    rows = tl.program_id(0) * rows_at_once + tl.arange(0, rows_at_once)
    first_bin = tl.program_id(1) * bins_at_once
    columns = tl.arange(0, columns_at_once)
    # Beyond the end the last row is read again, and its sums are not stored.
    start_of_rows = tl.minimum(rows, num_rows - 1)[:, None].to(tl.int64) * stride
    in_full = num_columns // columns_at_once * columns_at_once
    # A million float32 additions lose the fractions: the sums of some columns add up in float64.
    for part in range(0, in_full, columns_a_sum):
        sums = _zeros(bins_at_once, rows_at_once, columns_at_once // 4)
        stop = tl.minimum(part + columns_a_sum, in_full)
        following = tl.load(scores + start_of_rows + (part + columns)[None, :])
        for start in range(part, stop, columns_at_once):
            loaded = following
            # Scores are on their way while those before are counted; the last are loaded twice.
            after = tl.minimum(start + columns_at_once, stop - columns_at_once)
            following = tl.load(scores + start_of_rows + (after + columns)[None, :])
            if keep_codes:
                kept = codes_of(places_of(loaded, high, scale, num_bins))
                tl.store(codes + start_of_rows + (start + columns)[None, :], kept.to(tl.uint8))
            sums = _add_shares(sums, (first_bin + 1.0) - (high - loaded) * scale, 4)
        _flush(sums, everything, rows, num_rows, first_bin, num_bins, 1)
    if in_full < num_columns:
        inside = (in_full + columns < num_columns)[None, :] & (rows >= 0)[:, None]
        at = start_of_rows + (in_full + columns)[None, :]
        loaded = tl.load(scores + at, mask=inside, other=0.0)
        if keep_codes:
            kept = codes_of(places_of(loaded, high, scale, num_bins))
            tl.store(codes + at, kept.to(tl.uint8), mask=inside)
        # So far below 0 that no bin is reached.
        reach = tl.where(inside, (first_bin + 1.0) - (high - loaded) * scale, -1.0 * num_bins)
        sums = _add_shares(_zeros(bins_at_once, rows_at_once, columns_at_once // 4), reach, 4)
        _flush(sums, everything, rows, num_rows, first_bin, num_bins, 1)
    _count_others(everything, rows, num_rows, num_columns, num_bins)


@kernel
def _load_rows(
    scores: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    stride: tl.tensor,
    num_loads: tl.constexpr,
) -> tl.tuple:
    """Scores of ``rows`` and of those below them, as many times as there are loads."""
    loaded = ()
    for load in tl.static_range(num_loads):
        below = rows.to(tl.int64) + load * rows.shape[0]
        scores_there = tl.load(scores + below[:, None] * stride + columns[None, :])
        loaded = loaded + (scores_there,)  # type: ignore[assignment]  # noqa: RUF005
    return loaded


@kernel
def bin_columns(
    scores: tl.tensor,
    everything: tl.tensor,
    num_rows: tl.tensor,
    num_columns: tl.tensor,
    stride: tl.tensor,
    high: tl.tensor,
    scale: tl.tensor,
    num_bins: tl.constexpr,
    bins_at_once: tl.constexpr,
    rows_at_once: tl.constexpr,
    loads_at_once: tl.constexpr,
    columns_at_once: tl.constexpr,
    rows_a_sum: tl.constexpr,
) -> None:
    """Add the ``scores`` of a tile to the cumulative histograms of its columns.

    The arguments are those of `bin_rows`; ``everything`` is (c, M), each program owns some columns
    and loads ``loads_at_once`` times ``rows_at_once`` rows at a time. What lies in ``scores`` up to
    ``stride`` is read and not used.
    """
    columns = tl.program_id(0) * columns_at_once + tl.arange(0, columns_at_once)
    first_bin = tl.program_id(1) * bins_at_once
    rows = tl.arange(0, rows_at_once)
    step: tl.constexpr = rows_at_once * loads_at_once
    in_full = num_rows // step * step
    for part in range(0, in_full, rows_a_sum):
        sums = _zeros(bins_at_once, rows_at_once, columns_at_once)
        stop = tl.minimum(part + rows_a_sum, in_full)
        following = _load_rows(scores, part + rows, columns, stride, loads_at_once)
        for start in range(part, stop, step):
            loaded = following
            after = tl.minimum(start + step, stop - step)
            following = _load_rows(scores, after + rows, columns, stride, loads_at_once)
            for load in tl.static_range(loads_at_once):
                reach = (first_bin + 1.0) - (high - loaded[load]) * scale
                sums = _add_shares(sums, reach, 1)
        _flush(sums, everything, columns, num_columns, first_bin, num_bins, 0)
    if in_full < num_rows:
        sums = _zeros(bins_at_once, rows_at_once, columns_at_once)
        for start in range(in_full, num_rows, rows_at_once):
            inside = (start + rows < num_rows)[:, None] & (columns >= 0)[None, :]
            at = (rows.to(tl.int64) + start)[:, None] * stride + columns[None, :]
            loaded = tl.load(scores + at, mask=inside, other=0.0)
            reach = tl.where(inside, (first_bin + 1.0) - (high - loaded) * scale, -1.0 * num_bins)
            sums = _add_shares(sums, reach, 1)
        _flush(sums, everything, columns, num_columns, first_bin, num_bins, 0)
    _count_others(everything, columns, num_columns, num_rows, num_bins)


@kernel
def _shares(
    places: tl.tensor, listed: tl.tensor, bins: tl.tensor, num_bins: tl.constexpr
) -> tl.tensor:
    """(L, B) float32 sums of clip(u + 1 - place, 0, 1) over the listed pairs of each line."""
    # At M no bin is reached.
    reach = tl.where(listed, places, num_bins * 1.0)
    # Outside the places in use, an entry is 0 or the number of pairs.
    first = tl.min(reach).to(tl.int32)
    last = tl.max(tl.where(listed, places, -1.0)).to(tl.int32)
    num_pairs = tl.sum(listed.to(tl.float32), axis=1)
    sums = tl.where(bins[None, :] > last, num_pairs[:, None], 0.0)
    for u in range(first, last + 1):
        share = tl.minimum(tl.maximum(u + 1.0 - reach, 0.0), 1.0)
        sums = tl.where(bins[None, :] == u, tl.sum(share, axis=1)[:, None], sums)
    return sums


@kernel
def _counts(
    codes: tl.tensor, counted: tl.tensor, bins: tl.tensor, num_bins: tl.constexpr
) -> tl.tensor:
    """(L, B) int32 number of counted pairs by interval; those of code 0 are in none."""
    first = tl.min(tl.where(counted, codes, num_bins + 1))
    last = tl.max(tl.where(counted, codes, 0))
    numbers = tl.zeros((codes.shape[0], bins.shape[0]), tl.int32)
    for code in range(first, last + 1):
        number = tl.sum((counted & (codes == code)).to(tl.int32), axis=1)
        numbers = tl.where(bins[None, :] == code - 1, number[:, None], numbers)
    return numbers


@kernel
def _add(
    table: tl.tensor,
    sums: tl.tensor,
    lines: tl.tensor,
    num_lines: tl.tensor,
    bins: tl.tensor,
    width: tl.constexpr,
) -> None:
    """Add ``sums`` (L, B) to the rows ``lines`` of a ``table`` (l, width)."""
    at = table + lines[:, None].to(tl.int64) * width + bins[None, :]
    owned = (lines < num_lines)[:, None] & (bins < width)[None, :]
    tl.store(at, tl.load(at, mask=owned) + sums, mask=owned)


@kernel
def bin_related(
    scores: tl.tensor,
    labels: tl.tensor,
    ignore: tl.tensor,
    related: tl.tensor,
    everything: tl.tensor,
    positives: tl.tensor,
    counts: tl.tensor,
    squares: tl.tensor,
    num_rows: tl.tensor,
    num_columns: tl.tensor,
    stride: tl.tensor,
    first_row: tl.tensor,
    first_column: tl.tensor,
    first_own: tl.tensor,
    num_blocks: tl.tensor,
    num_images: tl.tensor,
    high: tl.tensor,
    scale: tl.tensor,
    programs_of_rows: tl.tensor,
    num_bins: tl.constexpr,
    padded_bins: tl.constexpr,
    include_self: tl.constexpr,
    lines_at_once: tl.constexpr,
    side: tl.constexpr,
) -> None:
    """Add the positives of a tile to their histograms, and take what is left out of the others.

    Grid: blocks of rows, and then, for a mirrored tile, blocks of columns.

    Args:
        scores: (r, c) float32 of the tile.
        labels: (n,) int64 classes.
        ignore: (n,) int64 ids of junk.
        related: the blocks that `mark_related` marked.
        everything: (b, M) float64; junk and the image itself are subtracted.
        positives: (b, M) float64, added to.
        counts: (b, M-1) int64 positives by interval, added to.
        squares: (b,) float32 similarity of an image with itself, written.
        num_rows: r.
        num_columns: c.
        stride: between rows.
        first_row: image of row 0.
        first_column: image of column 0.
        first_own: image of the first of the b rows.
        num_blocks: blocks of the n images.
        num_images: n.
        high: score of the first centre.
        scale: bins per unit of score.
        programs_of_rows: programs that have rows; the others have columns.
        num_bins: M.
        padded_bins: a power of two of at least M.
        include_self: whether an image is a positive of itself.
        lines_at_once: rows or columns of a program.
        side: BLOCK, columns or rows that it looks at at a time.
    """
    program = tl.program_id(0)
    of_rows = program < programs_of_rows
    program = tl.where(of_rows, program, program - programs_of_rows)
    num_lines = tl.where(of_rows, num_rows, num_columns)
    num_others = tl.where(of_rows, num_columns, num_rows)
    first_line = tl.where(of_rows, first_row, first_column)
    first_other = tl.where(of_rows, first_column, first_row)
    line_stride, other_stride = tl.where(of_rows, stride, 1), tl.where(of_rows, 1, stride)
    # From a block to the next one of its lines, and of its others.
    block_of_line = tl.where(of_rows, num_blocks, 1)
    block_of_other = tl.where(of_rows, 1, num_blocks)
    block = (first_row - first_own) // side * num_blocks + first_column // side
    block += program * lines_at_once // side * block_of_line
    lines = program * lines_at_once + tl.arange(0, lines_at_once)
    bins = tl.arange(0, padded_bins)
    own = first_line - first_own + lines
    last_own = first_line - first_own + num_lines
    for step in range((num_others + side - 1) // side):
        if tl.load(related + block + step * block_of_other) != 0:
            others = step * side + tl.arange(0, side)
            inside = (lines < num_lines)[:, None] & (others < num_others)[None, :]
            at = lines[:, None].to(tl.int64) * line_stride
            at += others[None, :].to(tl.int64) * other_stride
            loaded = tl.load(scores + at, mask=inside, other=0.0)
            places = places_of(loaded, high, scale, num_bins)
            images, other_images = first_line + lines, first_other + others
            same, junk = relation(labels, ignore, images, other_images, num_images)
            itself = images[:, None] == other_images[None, :]
            square = tl.sum(tl.where(itself, loaded, 0.0), axis=1)
            met = tl.sum((itself & inside).to(tl.int32), axis=1) > 0
            met = met & (lines < tl.where(of_rows, num_lines, 0))
            tl.store(squares + own, square, mask=met)
            if include_self:
                positive, excluded = same & inside, junk & inside
            else:
                positive, excluded = same & inside & ~itself, (junk | itself) & inside
            left_out = _shares(places, excluded, bins, num_bins)
            _add(everything, -left_out.to(tl.float64), own, last_own, bins, num_bins)
            added = _shares(places, positive, bins, num_bins)
            _add(positives, added.to(tl.float64), own, last_own, bins, num_bins)
            numbers = _counts(codes_of(places), positive & ~itself, bins, num_bins)
            _add(counts, numbers.to(tl.int64), own, last_own, bins, num_bins - 1)
