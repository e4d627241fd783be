"""Better descriptors from neighbours and scales: query expansion, database augmentation, scales.

Shapes: q queries, n database images, d descriptor size, k neighbours, s scales.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.retrieval.ranking import nearest_rows, query_tiles


def expand_queries(queries: Tensor, database: Tensor, *, k: int, alpha: float) -> Tensor:
    """Alpha query expansion: each query plus its ``k`` nearest images, weighted, of unit length.

        l2(query + sum over the k nearest of max(similarity, 0)^alpha image)

    Radenovic, Tolias, Chum, 2018, arXiv:1711.02512.

    Args:
        queries: (q, d) of unit length.
        database: (n, d) of unit length.
        k: neighbours; 0 leaves the queries as they are.
        alpha: 0 weighs all neighbours alike (average query expansion).

    Raises:
        ValueError: shapes differ, k exceeds n, or alpha is negative.
    """
    _check(queries, database, k, len(database), alpha)
    if not k:
        return queries
    scores, rows = nearest_rows(queries, database, k)
    return _add_neighbours(queries, database, scores, rows, alpha)


def augment_database(database: Tensor, *, k: int, alpha: float) -> Tensor:
    """Database augmentation: `expand_queries` of every image (n, d) by its k nearest others."""
    _check(database, database, k, len(database) - 1, alpha)
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


def pool_scales(descriptors: Tensor, *, p: float = 3.0) -> Tensor:
    """Signed power mean over scales, (s, n, d) to (n, d) of unit length.

        l2(signed_root(mean over scales of sign(x) |x|^p))      signed_root(y) = sign(y) |y|^(1/p)

    ``p`` = 1 is the mean. The signs keep negative components from turning into NaN.
    """
    if descriptors.dim() != 3 or not len(descriptors) or p <= 0:
        raise ValueError(
            f"expected descriptors (s, n, d), s >= 1, and p > 0, "
            f"got {tuple(descriptors.shape)} and p = {p}"
        )
    powered = (descriptors.sign() * descriptors.abs().pow(p)).mean(dim=0)  # (n, d)
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


def _check(queries: Tensor, database: Tensor, k: int, largest_k: int, alpha: float) -> None:
    if queries.dim() != 2 or database.dim() != 2 or queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"expected descriptors (q, d) and (n, d), "
            f"got {tuple(queries.shape)} and {tuple(database.shape)}"
        )
    if not 0 <= k <= largest_k:
        raise ValueError(f"k neighbours must lie in 0 to {largest_k}, got {k}")
    if alpha < 0:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
