"""Exact ranks of the images that share a query's label, without sorting the database.

The score of a pair is the inner product of its float32 descriptors, summed in float64 and rounded
to float32. Sums in another order round to the same score, so neither tiles nor workers nor the
device change a rank. Of equal scores the earlier database row ranks first.

Shapes: q queries, n database images, d descriptor size, t queries and c images in a tile, p
positives of the query in the tile that has the most. Ranks count from 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from apdist.loss.kernels.available import has_numba
from apdist.retrieval.positives import Positives, score_tile
from apdist.retrieval.ranking import ranking_keys

# A tile of these sizes is multiplied as fast as a whole matrix, and is small: 16 MiB of scores.
_QUERIES_PER_TILE = 1024
_IMAGES_PER_TILE = 4096
# Bounds what is kept for the positives of a tile's queries, and what is gathered to score them.
_NUMBERS_AT_ONCE = 1 << 22
_LAST_KEY = torch.iinfo(torch.int64).max


def ranks_of_positives(
    queries: Tensor,
    query_labels: Tensor,
    database: Tensor,
    database_labels: Tensor,
    *,
    own_rows: Tensor | None = None,
    tile_size: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tile by tile, ascending ranks (t, p) of the positives and how many (t,) each query has.

        for each query and each database image j with its label:
            number of images scored above j, or as j and in an earlier row

    Memory beyond the arguments is bounded, whatever q and n are.

    Args:
        queries: (q, d) float32 descriptors.
        query_labels: (q,) integers.
        database: (n, d) float32 descriptors.
        database_labels: (n,) integers.
        own_rows: (q,) database row that is the query itself: neither a positive nor counted.
        tile_size: queries at a time; 0 chooses.

    Yields:
        Ranks behind the number of a query's positives are padding: n, behind all images.
    """
    queries, database = queries.contiguous(), database.contiguous()
    labelled = group_rows(query_labels, database_labels)
    for tile in _query_tiles(labelled[1], labelled[2], tile_size):
        own = None if own_rows is None else own_rows[tile]
        positives = positives_of(queries[tile], database, labelled, tile, own)
        ranks = negatives_before(queries[tile], database, positives)
        # A positive also has those before it that are positives.
        places = torch.arange(ranks.shape[1], device=ranks.device)
        ranks += places
        yield ranks.where(places < positives.counts[:, None], len(database)), positives.counts


def group_rows(query_labels: Tensor, database_labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Database rows by label (n,); where each query's label starts (q,) and where it ends (q,)."""
    ordered, rows = database_labels.sort(stable=True)
    first = torch.searchsorted(ordered, query_labels.contiguous())
    return rows, first, torch.searchsorted(ordered, query_labels.contiguous(), right=True)


def _query_tiles(first: Tensor, end: Tensor, tile_size: int) -> Iterator[slice]:
    """Slices of the queries, few where one of them has very many positives."""
    start, step = 0, tile_size or _QUERIES_PER_TILE
    while start < len(first):
        most = int((end - first)[start : start + step].max())
        stop = min(start + min(step, max(1, _NUMBERS_AT_ONCE // max(1, most))), len(first))
        yield slice(start, stop)
        start = stop


def positives_of(
    queries: Tensor,
    database: Tensor,
    labelled: tuple[Tensor, Tensor, Tensor],
    tile: slice,
    own_rows: Tensor | None,
) -> Positives:
    """The positives of ``queries`` (t, d), sorted by score and row."""
    rows_by_label, first, end = labelled[0], labelled[1][tile], labelled[2][tile]
    places = torch.arange(max(1, int((end - first).max())), device=queries.device)
    within = (first[:, None] + places).clamp(max=len(rows_by_label) - 1)
    rows = rows_by_label[within]  # (t, p)
    real = places < (end - first)[:, None]
    if own_rows is not None:
        real &= rows != own_rows[:, None]
    scores = exact_scores(queries, database, rows)
    # The rows of a label ascend, so that places break ties as rows do.
    order = ranking_keys(scores).masked_fill_(~real, _LAST_KEY).argsort(dim=1)
    return Positives(
        scores.gather(1, order), rows.gather(1, order), real.sum(dim=1), rows_by_label, first, end
    )


def exact_scores(queries: Tensor, database: Tensor, rows: Tensor) -> Tensor:
    """Scores (t, p) of ``queries`` (t, d) with the ``rows`` (t, p) of the ``database`` (n, d)."""
    if _is_compiled_for(queries):
        from apdist.retrieval import rank_counting

        return rank_counting.exact_scores(queries, database, rows)
    return exact_scores_in_torch(queries, database, rows)


def exact_scores_in_torch(queries: Tensor, database: Tensor, rows: Tensor) -> Tensor:
    """`exact_scores` on any device."""
    scores = torch.empty(rows.shape, device=rows.device)
    doubled = queries.double()[:, :, None]  # (t, d, 1)
    step = max(1, _NUMBERS_AT_ONCE // queries.numel())
    for left in range(0, rows.shape[1], step):
        images = database[rows[:, left : left + step]].double()  # (t, step, d)
        scores[:, left : left + step] = (images @ doubled)[:, :, 0]
    return scores


def negatives_before(queries: Tensor, database: Tensor, positives: Positives) -> Tensor:
    """How many images without the query's label rank before each positive, (t, p)."""
    if _is_compiled_for(queries):
        from apdist.retrieval import rank_counting

        return rank_counting.negatives_before(queries, database, positives, _IMAGES_PER_TILE)
    return negatives_in_torch(queries, database, positives, _IMAGES_PER_TILE)


def negatives_in_torch(
    queries: Tensor, database: Tensor, positives: Positives, images_per_tile: int
) -> Tensor:
    """`negatives_before` on any device."""
    thresholds = _keys(positives.scores, positives.rows)
    places = torch.arange(thresholds.shape[1], device=queries.device)
    thresholds.masked_fill_(places >= positives.counts[:, None], _LAST_KEY)
    shape = (len(queries), thresholds.shape[1] + 1)
    counts = torch.zeros(shape, dtype=torch.int64, device=queries.device)
    label_places = torch.empty_like(positives.rows_by_label)
    label_places[positives.rows_by_label] = torch.arange(len(database), device=queries.device)
    for left in range(0, len(database), images_per_tile):
        images = slice(left, left + images_per_tile)
        scores = score_tile(queries, database[images])  # (t, c)
        columns = torch.arange(left, left + scores.shape[1], device=queries.device)
        keys = _keys(scores, columns)
        place = label_places[images]
        same = (place >= positives.first[:, None]) & (place < positives.end[:, None])  # (t, c)
        # A search of c keys in p thresholds and a histogram: no sort, c log p and not c p.
        interval = torch.searchsorted(thresholds, keys.masked_fill_(same, _LAST_KEY), right=True)
        counts.scatter_add_(1, interval, torch.ones_like(interval))
    return counts[:, :-1].cumsum(dim=1)


def _is_compiled_for(queries: Tensor) -> bool:
    """Whether compiled loops do the work; the plain torch beside them is for other devices."""
    return queries.device.type == "cpu" and has_numba()


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    """Unique integers whose ascending order is that of ranks: ``scores`` at database ``rows``."""
    places = torch.arange(scores.shape[1], device=scores.device)
    return ranking_keys(scores) - places + rows
