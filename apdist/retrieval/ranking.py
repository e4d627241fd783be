"""Exact nearest rows of descriptors, tiled so that memory is O(tile x n).

Shapes: q queries, n database images, d descriptor size, t queries in a tile, k results. Of equal
scores the earlier database row ranks first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from apdist.arrays import count_of, same_width

# Scores in flight at a time; each takes about 40 bytes on its way to a rank.
SCORES_PER_TILE = 1 << 22


def nearest_rows(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float32 scores (q, k) and rows (q, k) of the ``k`` database images nearest to each query.

    Args:
        queries: (q, d) descriptors, compared by float32 inner product.
        database: (n, d) with n >= k.
        k: results per query.

    Raises:
        ValueError: they are not of one size, or k is not from 0 to n. Numbers are not looked at:
            that would cost as much as a query.
    """
    same_width(("queries", "the database"), queries, database)
    k = count_of("k", k, 0, len(database))
    scores, rows = [], []
    for start, stop in query_tiles(len(queries), len(database)):
        tile = inner_products(queries[start:stop], database)  # (t, n)
        # Keys instead of scores: topk alone leaves the order of equal scores open.
        order = ranking_keys(tile).topk(k, dim=1, largest=False).indices
        scores.append(tile.gather(1, order))
        rows.append(order)
    if not rows:
        return queries.new_empty((0, k)).float(), torch.empty((0, k), dtype=torch.int64)
    return torch.cat(scores), torch.cat(rows)


def query_tiles(num_queries: int, num_images: int, tile_size: int = 0) -> Iterator[tuple[int, int]]:
    """Slices of the queries whose scores fit `SCORES_PER_TILE`, at least one query each."""
    step = tile_size or max(1, SCORES_PER_TILE // max(1, num_images))
    for start in range(0, num_queries, step):
        yield start, min(start + step, num_queries)


def inner_products(queries: Tensor, database: Tensor) -> Tensor:
    """Float32 scores (t, n) of queries (t, d) against the database (n, d)."""
    return queries.float() @ database.float().T


def ranking_keys(scores: Tensor) -> Tensor:
    """Unique integers (t, n) whose ascending order is the rank order of ``scores`` (t, n).

    The upper half of a key holds the bits of -score, mapped so that integers sort as the floats do;
    the lower half holds the column.
    """
    # 0.0 - s, not -s: 0.0 and -0.0 are equal as scores and then as bits, too.
    bits = (0.0 - scores.float()).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    columns = torch.arange(scores.shape[1], device=scores.device)
    return (ordered.to(torch.int64) << 32) | columns
