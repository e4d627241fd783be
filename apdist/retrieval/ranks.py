"""Exact ranks of the images that share a query's label, without sorting the database.

What a score is and where equal ones rank is said in `positives.py`.

Shapes: q queries, n database images, d descriptor size, t queries and c images in a tile, p
positives of the query in the tile that has the most. Ranks count from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from apdist.loss.kernels.available import has_numba
from apdist.retrieval import torch_counting
from apdist.retrieval.positives import Positives, best_first

# A tile of these sizes is multiplied as fast as a whole matrix, and is small: 16 MiB of scores.
_QUERIES_PER_TILE = 1024
IMAGES_PER_TILE = 4096
# Bounds what is kept for the positives of a tile's queries.
_NUMBERS_AT_ONCE = 1 << 22


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
            number of images without the label that score as j or above,
            and of positives before j

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
    for tile in query_slices(labelled[2] - labelled[1], tile_size):
        own = None if own_rows is None else own_rows[tile]
        positives = positives_of(queries[tile], database, labelled, tile, own)
        ranks = negatives_before([(queries[tile], positives)], database_tiles(database))[0]
        # A positive also has those before it that are positives.
        places = torch.arange(ranks.shape[1], device=ranks.device)
        ranks += places
        yield ranks.where(places < positives.counts[:, None], len(database)), positives.counts


def group_rows(query_labels: Tensor, database_labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Database rows by label (n,); where each query's label starts (q,) and where it ends (q,)."""
    ordered, rows = database_labels.sort(stable=True)
    first = torch.searchsorted(ordered, query_labels.contiguous())
    return rows, first, torch.searchsorted(ordered, query_labels.contiguous(), right=True)


def query_slices(counts: Tensor, tile_size: int = 0) -> Iterator[slice]:
    """Slices of the queries with ``counts`` (q,) positives; short where a query has very many.

    What is kept for a slice grows with the positives of its query that has the most.
    """
    start, step = 0, tile_size or _QUERIES_PER_TILE
    while start < len(counts):
        most = int(counts[start : start + step].max())
        stop = min(start + min(step, max(1, _NUMBERS_AT_ONCE // max(1, most))), len(counts))
        yield slice(start, stop)
        start = stop


def database_tiles(database: Tensor, left: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Pairs (row, part): parts (c, d) of a ``database`` (n, d) and the row of their first image.

    Rows are counted from ``left``.
    """
    for start in range(0, len(database), IMAGES_PER_TILE):
        yield left + start, database[start : start + IMAGES_PER_TILE]


def positives_of(
    queries: Tensor,
    database: Tensor,
    labelled: tuple[Tensor, Tensor, Tensor],
    tile: slice,
    own_rows: Tensor | None,
) -> Positives:
    """The positives of ``queries`` (t, d): all with their label but themselves."""
    rows_by_label, first, end = labelled[0], labelled[1][tile], labelled[2][tile]
    places = torch.arange(max(1, int((end - first).max())), device=queries.device)
    within = (first[:, None] + places).clamp(max=len(rows_by_label) - 1)
    rows = rows_by_label[within]  # (t, p)
    real = places < (end - first)[:, None]
    if own_rows is not None:
        real &= rows != own_rows[:, None]
    scores = exact_scores(queries, database, rows)
    return best_first(scores, rows, real, (rows_by_label, first, end))


def exact_scores(queries: Tensor, database: Tensor, rows: Tensor) -> Tensor:
    """Scores (t, p) of ``queries`` (t, d) with the ``rows`` (t, p) of the ``database`` (n, d)."""
    if _is_compiled_for(queries):
        from apdist.retrieval import rank_counting

        return rank_counting.exact_scores(queries, database, rows)
    return torch_counting.exact_scores(queries, database, rows)


def negatives_before(
    tiles: Sequence[tuple[Tensor, Positives]], images: Iterable[tuple[int, Tensor]]
) -> list[Tensor]:
    """How many negatives rank before each positive, (t, p) of each tile.

    Args:
        tiles: queries (t, d) and their positives.
        images: parts (c, d) of the database and what else is to be searched, c at most
            `IMAGES_PER_TILE`, each behind the row of its first image; gone through once.
    """
    if tiles and _is_compiled_for(tiles[0][0]):
        from apdist.retrieval import rank_counting

        return rank_counting.negatives_before(tiles, images)
    return torch_counting.negatives_before(tiles, images)


def _is_compiled_for(queries: Tensor) -> bool:
    """Whether compiled loops do the work; the plain torch beside them is for other devices."""
    return queries.device.type == "cpu" and has_numba()
