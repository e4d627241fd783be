"""Exact ranks and nearest rows of descriptors, tiled so that memory is O(tile x n).

Shapes: q queries, n database images, d descriptor size, t queries in a tile, p positives of the
query in the tile that has the most, k results. Ranks count from 0; of equal scores the
earlier database row ranks first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Scores in flight at a time; each takes about 40 bytes on its way to a rank.
SCORES_PER_TILE = 1 << 22
_LAST_KEY = torch.iinfo(torch.int64).max


def nearest_rows(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float32 scores (q, k) and rows (q, k) of the ``k`` database images nearest to each query.

    Args:
        queries: (q, d) descriptors, compared by float32 inner product.
        database: (n, d) with n >= k.
        k: results per query.
    """
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


def ranks_of_positives(
    queries: Tensor,
    query_labels: Tensor,
    database: Tensor,
    database_labels: Tensor,
    *,
    self_in_database: bool,
    tile_size: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tile by tile, ascending ranks (t, p) of the positives and how many (t,) each query has.

        for each query and each database image j with its label:
            number of images scored above j, or as j and in an earlier row

    Args:
        queries: (q, d) descriptors, compared by float32 inner product.
        query_labels: (q,) integers.
        database: (n, d) descriptors.
        database_labels: (n,) integers.
        self_in_database: query i is database row i: neither a positive nor counted in a rank.
        tile_size: queries at a time; 0 takes as many as fit `SCORES_PER_TILE`.

    Yields:
        Ranks behind the number of a row's positives are padding, and rank behind all images.
    """
    rows_by_label, first, count = _group_rows(query_labels, database_labels)
    for start, stop in query_tiles(len(queries), len(database), tile_size):
        keys = ranking_keys(inner_products(queries[start:stop], database))  # (t, n)
        num_positives = count[start:stop]
        if self_in_database:
            itself = torch.arange(start, stop, device=keys.device)[:, None]
            keys.scatter_(1, itself, _LAST_KEY)
            num_positives = num_positives - 1
        places = torch.arange(max(1, int(count[start:stop].max())), device=keys.device)
        within = (first[start:stop, None] + places).clamp(max=len(rows_by_label) - 1)  # (t, p)
        positive_keys = keys.gather(1, rows_by_label[within])
        positive_keys.masked_fill_(places >= count[start:stop, None], _LAST_KEY)
        yield _count_before(keys, positive_keys.sort(dim=1).values), num_positives


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


def _group_rows(query_labels: Tensor, database_labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Database rows by label (n,); where each query's label starts (q,) and its count (q,)."""
    ordered, rows = database_labels.sort(stable=True)
    first = torch.searchsorted(ordered, query_labels.contiguous())
    end = torch.searchsorted(ordered, query_labels.contiguous(), right=True)
    return rows, first, end - first


def _count_before(keys: Tensor, thresholds: Tensor) -> Tensor:
    """Number (t, p) of ``keys`` (t, n) below each of the sorted ``thresholds`` (t, p).

    A search of n keys in p thresholds and a histogram: no sort of n, and n log p instead of n p.
    """
    interval = torch.searchsorted(thresholds, keys, right=True)  # (t, n), 0 to p
    shape = (len(keys), thresholds.shape[1] + 1)
    counts = torch.zeros(shape, dtype=torch.int64, device=keys.device)
    counts.scatter_add_(1, interval, torch.ones_like(interval))
    return counts[:, :-1].cumsum(dim=1)
