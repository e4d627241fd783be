"""Compiled loops over scores: what ranks before a positive, what is nearest; imported when used.

Shapes: r queries and c images in a strip, d descriptor size, p positives, n database images.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from apdist.loss.kernels.numba_types import compiled

# So many positives are compared with each score; among more, a search is faster.
_FEW = 32
# Scores that stay in the L1 cache between two counts.
_SCORES_AT_ONCE = 1024
# One by one, where one of them is near.
_SCORES_LOOKED_AT = 64


@compiled
def score_rows(queries: Any, database: Any, rows: Any, scores: Any) -> None:
    """Write the scores (r, p) of ``queries`` (r, d) with ``rows`` (r, p) of ``database`` (n, d)."""
    for i in range(len(rows)):
        for k in range(rows.shape[1]):
            scores[i, k] = _inner_product(queries[i], database[rows[i, k]])


# Torch's lengths of rows take longer than a product with a hundred queries.
@functools.partial(compiled, fastmath={"reassoc", "contract"})
def longest_square(images: Any) -> Any:
    """Squared length of the longest of ``images`` (c, d), rounded as float32 sums are."""
    longest = np.float32(0)
    for i in range(len(images)):
        total = np.float32(0)
        for j in range(images.shape[1]):
            total += images[i, j] * images[i, j]
        longest = max(longest, total)
    return longest


@compiled
def leave_out(scores: Any, left: int, known: Any, first: Any, end: Any) -> None:
    """Put NaN, which compares with nothing, over the images that are no negatives of the query.

    Column 0 of ``scores`` (r, c) is database row ``left``; the rows of a query are
    ``known[first:end]``, ascending.
    """
    for i in range(len(scores)):
        rows = known[first[i] : end[i]]
        for k in range(np.searchsorted(rows, left), len(rows)):
            if rows[k] >= left + scores.shape[1]:
                break
            scores[i, rows[k] - left] = np.nan


@compiled
def count_before(
    scores: Any, margins: Any, descriptors: Any, positives: Any, limit: int, found: Any
) -> bool:
    """Add to ``found`` (r, p) how many ``scores`` (r, c) rank before each of the positives.

    Args:
        scores: products in float32; NaN is passed over.
        margins: (r,) how far they may be from the scores; 0 where they are the scores.
        descriptors: (r, d) of the queries, (c, d) of the images.
        positives: (r, p) scores, best first; (r,) how many there are.
        limit: sums in float64 after which the strip is given up.
        found: (r, p) int64.

    Returns:
        False where it was given up.
    """
    queries, images = descriptors
    best, numbers = positives
    num_sums = 0
    for i in range(len(scores)):
        number = numbers[i]
        pair = (scores[i], margins[i], queries[i], images)
        listed = best[i, :number]
        if number > _FEW:
            num_sums += _count_by_search(pair, listed, found[i])
        else:
            num_sums += _count_by_comparison(pair, listed, found[i])
        if num_sums > limit:
            return False
    return True


@compiled
def _count_by_comparison(pair: Any, listed: Any, found: Any) -> int:
    scores, margin, query, images = pair
    num_sums = 0
    for start in range(0, len(scores), _SCORES_AT_ONCE):
        part = scores[start : start + _SCORES_AT_ONCE]
        # The worst first: where no score comes near it, none does to the better ones.
        for k in range(len(listed) - 1, -1, -1):
            best = listed[k]
            low, high = np.float32(best - margin), np.float32(best + margin)
            above, near = _count_two(part, low, high)
            if near == 0:
                break
            found[k] += above
            open_ = near - above
            for few in range(0, len(part), _SCORES_LOOKED_AT):
                if open_ == 0:
                    break
                stop = min(few + _SCORES_LOOKED_AT, len(part))
                above, near = _count_two(part[few:stop], low, high)
                if near == above:
                    continue
                open_ -= near - above
                for j in range(few, stop):
                    if low <= part[j] <= high:
                        score = part[j]
                        if margin > 0:
                            score = _inner_product(query, images[start + j])
                            num_sums += 1
                        found[k] += score >= best
    return num_sums


# Counts in float32, exact up to 2**24 and in any order, fill a vector: numba widens small integers.
@functools.partial(compiled, fastmath={"reassoc"})
def _count_two(scores: Any, low: Any, high: Any) -> Any:
    zero, one = np.float32(0), np.float32(1)
    above, near = zero, zero
    for j in range(len(scores)):
        above += one if scores[j] > high else zero
        near += one if scores[j] >= low else zero
    return np.int64(above), np.int64(near)


@compiled
def _count_by_search(pair: Any, best: Any, found: Any) -> int:
    scores, margin, query, images = pair
    starts = np.zeros(len(best) + 1, np.int64)
    num_sums = 0
    lowest = np.float32(best[-1] - margin)
    for j in range(len(scores)):
        score = scores[j]
        if not score >= lowest:  # most score below all positives; NaN is passed over, too
            continue
        k = _first_behind(score, best)
        is_near = k < len(best) and best[k] >= score - margin
        if margin > 0 and (is_near or (k > 0 and best[k - 1] <= score + margin)):
            num_sums += 1
            score = _inner_product(query, images[j])
            k = _first_behind(score, best)
        starts[k] += 1
    total = 0
    for k in range(len(best)):
        total += starts[k]
        found[k] += total
    return num_sums


@compiled
def _first_behind(score: Any, best: Any) -> int:
    """The first of the positives that an image of that score ranks before."""
    low, high = 0, len(best)
    while low < high:
        middle = (low + high) // 2
        if best[middle] <= score:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def keep_nearest(scores: Any, margins: Any, descriptors: Any, left: int, heaps: Any) -> None:
    """Put the best of ``scores`` (r, c) into the heaps of the best so far.

    Args:
        scores: products in float32; NaN is passed over.
        margins: (r,) how far they may be from the scores.
        descriptors: (r, d) of the queries, (c, d) of the images.
        left: database row of the first image; later calls have later rows.
        heaps: (r, k) scores and (r, k) rows; the worst of each query is at 0.
    """
    queries, images = descriptors
    for i in range(len(scores)):
        best, rows = heaps[0][i], heaps[1][i]
        low = np.float32(best[0] - margins[i])
        for start in range(0, scores.shape[1], _SCORES_LOOKED_AT):
            part = scores[i, start : start + _SCORES_LOOKED_AT]
            if _count_two(part, low, low)[1] == 0:
                continue
            for j in range(len(part)):
                if not part[j] >= low:
                    continue
                score = _inner_product(queries[i], images[start + j])
                # Of equal scores the earlier row stays.
                if score > best[0] or (rows[0] < 0 and score == best[0]):
                    _replace_worst(best, rows, score, left + start + j)
                    low = np.float32(best[0] - margins[i])


@compiled
def _replace_worst(best: Any, rows: Any, score: Any, row: int) -> None:
    """Put a score in the place of the worst, and the next worst at 0."""
    k, place = len(best), 0
    while 2 * place + 1 < k:
        worst = 2 * place + 1
        if worst + 1 < k and _is_worse(best, rows, worst + 1, worst):
            worst += 1
        if score < best[worst] or (score == best[worst] and row > rows[worst] >= 0):
            break
        best[place], rows[place] = best[worst], rows[worst]
        place = worst
    best[place], rows[place] = score, row


@compiled
def _is_worse(best: Any, rows: Any, a: int, b: int) -> bool:
    """Whether entry ``a`` ranks behind entry ``b``; an empty one behind all."""
    if rows[a] < 0 or rows[b] < 0:
        return bool(rows[a] < rows[b])
    return bool(best[a] < best[b] or (best[a] == best[b] and rows[a] > rows[b]))


@compiled
def _inner_product(query: Any, image: Any) -> Any:
    """The score of a pair: summed in float64, rounded to float32."""
    # Four sums: each addition need not wait for the one before.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    size = len(query)
    for j in range(0, size - 3, 4):
        a += np.float64(query[j]) * np.float64(image[j])
        b += np.float64(query[j + 1]) * np.float64(image[j + 1])
        c += np.float64(query[j + 2]) * np.float64(image[j + 2])
        d += np.float64(query[j + 3]) * np.float64(image[j + 3])
    for j in range(size - size % 4, size):
        a += np.float64(query[j]) * np.float64(image[j])
    return np.float32((a + b) + (c + d))
