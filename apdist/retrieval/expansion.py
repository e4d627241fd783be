"""Better descriptors from neighbours and scales: query expansion, database augmentation, scales.

Shapes: q queries, n database images, d descriptor size, k neighbours, s scales.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.arrays import (
    Array,
    count_of,
    descriptor_parts_of,
    descriptors_of,
    number_of,
    same_width,
    shape_of,
    tensor_of,
)
from apdist.retrieval.ranking import nearest_rows, query_tiles

_SMALLEST_POWER, _LARGEST_POWER = 0.01, 100.0
"""Of a mean over scales: beyond, powers of small numbers are 0 in float32."""
_NONE = -torch.inf
"""The score of what is no neighbour."""


def expand_queries(
    queries: Array,
    database: Array,
    *,
    k: int,
    alpha: float,
    more: Iterable[Array] = (),
    own: Sequence[int] = (),
) -> Tensor:
    """Alpha query expansion: each query plus its ``k`` nearest images, weighted, of unit length.

        l2(query + sum over the k nearest of max(similarity, 0)^alpha image)

    Radenovic, Tolias, Chum, 2018, arXiv:1711.02512.

    Args:
        queries: (q, d) of unit length.
        database: (n, d) of unit length.
        k: neighbours; 0 leaves the queries as they are.
        alpha: 0 weighs all neighbours alike (average query expansion).
        more: parts of the database (m, d) beside ``database``, gone through once.
        own: (q,) row of ``database`` with the query's own picture, which is no neighbour; -1 where
            there is none. Empty: there is none of any query.

    Raises:
        ValueError: shapes differ, k exceeds the number of images, or alpha is negative.
    """
    queries = descriptors_of("queries", queries, unit=True)
    database = descriptors_of("database", database, unit=True)
    same_width(("queries", "the database"), queries, database)
    k, alpha = count_of("k", k, 0), number_of("alpha", alpha, 0)
    if not k:
        return queries
    scores, rows = _nearest_others(queries, database, k, _checked_own(own, queries, database))
    near, places = database, rows
    for part in descriptor_parts_of("more", more):
        near, scores, places = _nearest_of_both(queries, near, scores, places, part, k)
    count_of("k", k, 0, scores.shape[1] - int((scores == _NONE).any()))
    return _add_neighbours(queries, near, scores, places, alpha)


def augment_database(database: Array, *, k: int, alpha: float) -> Tensor:
    """Database augmentation: `expand_queries` of every image (n, d) by its k nearest others.

    Raises:
        ValueError: as there; an image has n - 1 others.
    """
    database = descriptors_of("database", database, unit=True)
    k = count_of("k", k, 0, max(0, len(database) - 1))
    alpha = number_of("alpha", alpha, 0)
    if not k:
        return database
    scores, rows = nearest_rows(database, database, k + 1)  # (n, k + 1)
    itself = rows == torch.arange(len(database), device=rows.device)[:, None]
    # An image with over k exact copies may miss itself: then its last neighbour gives way.
    itself[:, -1] |= ~itself.any(dim=1)
    shape = (len(database), k)
    return _add_neighbours(
        database, database, scores[~itself].view(shape), rows[~itself].view(shape), alpha
    )


def _checked_own(own: Sequence[int], queries: Tensor, database: Tensor) -> Tensor | None:
    if not len(own):
        return None
    if len(own) != len(queries) or not -1 <= min(own) <= max(own) < len(database):
        raise ValueError(
            f"own must be a row of the database for each of {len(queries)} queries, from 0 to "
            f"{len(database) - 1}, or -1; got {len(own)}, from {min(own)} to {max(own)}"
        )
    return torch.tensor(own, device=queries.device)


def _nearest_others(
    queries: Tensor, database: Tensor, k: int, own: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores and rows of the nearest (q, up to k), but for the ``own`` (q,) row of each query.

    Where an own row is among so few that all are needed, its score is `_NONE`.
    """
    if own is None:
        return nearest_rows(queries, database, min(k, len(database)))
    scores, rows = nearest_rows(queries, database, min(k + 1, len(database)))
    scores = scores.masked_fill(rows == own[:, None], _NONE)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), rows.gather(1, order)


def _nearest_of_both(
    queries: Tensor, near: Tensor, scores: Tensor, rows: Tensor, part: Array, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest so far and those of ``part``: their descriptors, scores and rows (q, k)."""
    found = descriptors_of("more", part, unit=True).to(queries)
    same_width(("queries", "more"), queries, found)
    more_scores, more_rows = nearest_rows(queries, found, min(k, len(found)))
    both = torch.cat((scores, more_scores), dim=1)
    best, places = both.topk(min(k, both.shape[1]), dim=1)
    pool = torch.cat((near[rows], found[more_rows]), dim=1)  # (q, up to 2k, d)
    kept = pool.gather(1, places[:, :, None].expand(-1, -1, pool.shape[2]))  # (q, k, d)
    numbers = torch.arange(kept.shape[0] * kept.shape[1], device=kept.device)
    return kept.flatten(0, 1), best, numbers.view(kept.shape[:2])


def pool_scales(descriptors: Array, *, p: float = 3.0) -> Tensor:
    """Signed power mean over scales, (s, n, d) to (n, d) of unit length.

        l2(signed_root(mean over scales of sign(x) |x|^p))      signed_root(y) = sign(y) |y|^(1/p)

    ``p`` = 1 is the mean. The signs keep negative components from turning into NaN.

    Raises:
        ValueError: another shape, descriptors that are not of unit length, or ``p`` is not between
            0.01 and 100.
    """
    scales = tensor_of("descriptors", descriptors)
    if scales.dim() != 3 or not len(scales):
        raise ValueError(
            f"descriptors: expected one set for each scale, (s, n, d), s >= 1, got "
            f"{shape_of(scales)}"
        )
    p = number_of("p", p, _SMALLEST_POWER, _LARGEST_POWER)
    whole = descriptors_of("descriptors", scales.flatten(0, 1), unit=True).view_as(scales)
    powered = (whole.sign() * whole.abs().pow(p)).mean(dim=0)  # (n, d)
    return F.normalize(powered.sign() * powered.abs().pow(1 / p), dim=-1)


def _add_neighbours(
    queries: Tensor, database: Tensor, scores: Tensor, rows: Tensor, alpha: float
) -> Tensor:
    """Unit vectors (q, d) along query + sum over its rows (q, k) of max(score, 0)^alpha image."""
    weights = scores.clamp(min=0).pow(alpha).to(queries.dtype)
    sums = []
    for start, stop in query_tiles(len(queries), rows.shape[1] * queries.shape[1]):
        neighbours = database[rows[start:stop]]  # (t, k, d)
        added = (weights[start:stop, None] @ neighbours)[:, 0]  # (t, d)
        sums.append(queries[start:stop] + added)
    return F.normalize(torch.cat(sums), dim=-1)
