"""Exact nearest rows of descriptors, tiled: memory beyond them is bounded.

What a score is stands in `positives.py`: tiles, threads and devices do not change it. Of equal
scores the earlier database row ranks first.

Shapes: q queries, n database images, d descriptor size, t queries and c images in a tile, k
results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from apdist.arrays import count_of, same_width
from apdist.loss.kernels.available import has_numba
from apdist.retrieval.positives import score_tile

# Scores in flight at a time; each takes about 40 bytes on its way to a rank.
SCORES_PER_TILE = 1 << 22
_QUERIES_PER_TILE = 1024
_LEAST_IMAGES_PER_TILE = 4096


def nearest_rows(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float32 scores (q, k) and rows (q, k) of the ``k`` database images nearest to each query.

    The database is read once, part by part, whatever the number of queries is.

    Args:
        queries: (q, d) descriptors.
        database: (n, d) with n >= k.
        k: results per query.

    Raises:
        ValueError: they are not of one size, k is not from 0 to n, or a query has fewer than k
            scores that are numbers.
    """
    same_width(("queries", "the database"), queries, database)
    k = count_of("k", k, 0, len(database))
    if not len(queries) or not k:
        shape = (len(queries), k)
        return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(shape).long()
    nearest = _nearest
    if queries.device.type == "cpu" and has_numba():
        from apdist.retrieval.rank_counting import nearest
    tile = min(len(queries), _QUERIES_PER_TILE)
    step = max(_LEAST_IMAGES_PER_TILE, SCORES_PER_TILE // tile)
    images = (
        (left, database[left : left + step].float().contiguous())
        for left in range(0, len(database), step)
    )
    scores, rows = nearest(list(queries.float().contiguous().split(tile)), images, k)
    if (rows < 0).any():
        raise ValueError(
            f"expected {k} results for each query, but scores are not numbers; look for NaN in the "
            "descriptors"
        )
    order = ranking_keys(scores, rows).argsort(dim=1)
    return scores.gather(1, order), rows.gather(1, order)


def query_tiles(num_queries: int, num_images: int, tile_size: int = 0) -> Iterator[tuple[int, int]]:
    """Slices of the queries whose scores fit `SCORES_PER_TILE`, at least one query each."""
    step = tile_size or max(1, SCORES_PER_TILE // max(1, num_images))
    for start in range(0, num_queries, step):
        yield start, min(start + step, num_queries)


def ranking_keys(scores: Tensor, rows: Tensor) -> Tensor:
    """Unique integers (t, k) whose ascending order is the rank order of ``scores`` (t, k).

    The upper half of a key holds the bits of -score, mapped so that integers sort as the floats do;
    the lower half holds its database row, of ``rows`` (k,) or (t, k).
    """
    # 0.0 - s, not -s: 0.0 and -0.0 are equal as scores and then as bits, too.
    bits = (0.0 - scores.float()).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) | rows


def _nearest(
    tiles: Sequence[Tensor], images: Iterable[tuple[int, Tensor]], k: int
) -> tuple[Tensor, Tensor]:
    """Scores and rows (q, k) of the nearest, in any order, on any device; -1 for none."""
    count, device = sum(map(len, tiles)), tiles[0].device
    scores = torch.full((count, k), -torch.inf, device=device)
    rows = torch.full((count, k), -1, device=device)
    for left, part in images:
        columns = torch.arange(left, left + len(part), device=device)
        top = 0
        for queries in tiles:
            tile = slice(top, top + len(queries))
            found = score_tile(queries, part)  # (t, c)
            keys = ranking_keys(found, columns).masked_fill(
                found.isnan(), torch.iinfo(torch.int64).max
            )
            best = keys.topk(min(k, len(part)), dim=1, largest=False).indices
            both = torch.cat([scores[tile], found.gather(1, best)], dim=1)
            there = torch.cat([rows[tile], columns[best].where(~both[:, k:].isnan(), -1)], dim=1)
            keys = ranking_keys(both, there).masked_fill(there < 0, torch.iinfo(torch.int64).max)
            best = keys.topk(k, dim=1, largest=False).indices
            scores[tile], rows[tile] = both.gather(1, best), there.gather(1, best)
            top += len(queries)
    return scores, rows
