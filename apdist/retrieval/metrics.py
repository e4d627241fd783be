"""Exact retrieval metrics of labelled descriptors.

Shapes: q queries, n database images, d descriptor size, t queries in a tile, p positives of the
query in the tile that has the most. Ranks count from 0. A positive is a database image with the
query's label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apdist.arrays import (
    Array,
    count_of,
    counts_of,
    descriptors_of,
    labels_of,
    same_width,
    tensor_of,
)
from apdist.retrieval.ranks import ranks_of_positives

NUM_RECALL_LEVELS = 101
RECALL_AT = (1, 5, 10)
MAP_AT = (5, 10)


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalScores:
    """How well queries find their positives; every mean runs over the queries that have one."""

    mean_average_precision: float
    """AP by the sum rule: the mean over a query's positives of the precision at their rank."""
    recall_at: dict[int, float]
    """R@k: share of queries with a positive among the first k."""
    map_at: dict[int, float]
    """mAP@k: precision at each positive among the first k, over min(k, number of positives)."""
    map_at_r: float
    """mAP@R: precision at each positive among the first R, over R, its number of positives."""
    r_precision: float
    """Mean precision among the first R results, R being the query's number of positives."""
    mean_reciprocal_rank: float
    """Mean of 1 / (1 + rank of the first positive)."""
    num_queries: int
    """All queries, with or without a positive."""
    num_queries_without_positive: int
    """Queries without a positive: left out of every mean."""
    average_precision: Tensor
    """(q,) float64 AP of each query, NaN where it has no positive."""
    precision_at_recall: Tensor
    """(101,) float64: best precision at recall 0, 0.01, ..., 1 or more, mean over queries."""


@dataclass(frozen=True, eq=False)
class QueryScores:
    """How well each of some queries finds its positives, before any mean."""

    names: tuple[str, ...]
    """m metrics; a query without a positive has AP NaN and is left out of every mean."""
    values: Tensor
    """(q, m) float64 on the CPU."""
    curve: Tensor
    """(101,) float64: precision at recall 0, 0.01, ..., 1 or more, summed over the queries."""

    def summary(self) -> RetrievalScores:
        """The means over the queries.

        Raises:
            ValueError: no query has a positive.
        """
        columns = dict(zip(self.names, self.values.T, strict=True))
        answerable = ~columns["average_precision"].isnan()
        if not answerable.any():
            raise ValueError(
                f"none of the {len(answerable)} queries has a positive; "
                "evaluate on images that share their label with another one"
            )
        means = {name: column[answerable].mean().item() for name, column in columns.items()}

        def at(metric: str) -> dict[int, float]:
            prefix = f"{metric}_at_"
            found = {n.removeprefix(prefix): v for n, v in means.items() if n.startswith(prefix)}
            return {int(k): value for k, value in found.items()}

        return RetrievalScores(
            mean_average_precision=means["average_precision"],
            recall_at=at("recall"),
            map_at=at("map"),
            map_at_r=means["precision_in_r"],
            r_precision=means["r_precision"],
            mean_reciprocal_rank=means["reciprocal_rank"],
            num_queries=len(answerable),
            num_queries_without_positive=int((~answerable).sum()),
            average_precision=columns["average_precision"].clone(),
            precision_at_recall=self.curve / answerable.sum(),
        )


def score_labelled(
    descriptors: Array,
    labels: Array,
    *,
    recall_at: Sequence[int] = RECALL_AT,
    map_at: Sequence[int] = MAP_AT,
    tile_size: int = 0,
) -> RetrievalScores:
    """Score every image as a query against all the others, where the descriptors lie.

    Args:
        descriptors: (n, d) as float32, by inner product: cosine similarity at unit length.
        labels: (n,) integers.
        recall_at: the k of R@k.
        map_at: the k of mAP@k.
        tile_size: queries at a time; 0 chooses.

    Raises:
        ValueError: shapes do not match, a descriptor is not finite, a k is below 1, or no query
            has a positive.
    """
    labels = tensor_of("labels", labels)
    rows = slice(0, labels.numel())
    return score_labelled_rows(
        descriptors, labels, rows, recall_at=recall_at, map_at=map_at, tile_size=tile_size
    ).summary()


def score_labelled_rows(
    descriptors: Array,
    labels: Array,
    rows: slice,
    *,
    recall_at: Sequence[int] = RECALL_AT,
    map_at: Sequence[int] = MAP_AT,
    tile_size: int = 0,
) -> QueryScores:
    """`score_labelled` for the queries ``rows`` alone; the parts of several workers add up."""
    descriptors, labels = _labelled("descriptors", descriptors, "labels", labels)
    recall_at, map_at = counts_of("recall_at", recall_at), counts_of("map_at", map_at)
    tile_size = count_of("tile_size", tile_size, 0)
    ranked = ranks_of_positives(
        descriptors[rows],
        labels[rows],
        descriptors,
        labels,
        own_rows=torch.arange(rows.start, rows.stop, device=labels.device),
        tile_size=tile_size,
    )
    return _score_queries(ranked, recall_at, map_at)


def score_queries(
    queries: Array,
    query_labels: Array,
    database: Array,
    database_labels: Array,
    *,
    recall_at: Sequence[int] = RECALL_AT,
    map_at: Sequence[int] = MAP_AT,
) -> RetrievalScores:
    """Score queries (q, d) with labels (q,) against another set, (n, d) with labels (n,).

    Options and refusals are those of `score_labelled`.
    """
    both = queries, query_labels, database, database_labels
    return score_query_rows(*both, recall_at=recall_at, map_at=map_at).summary()


def score_query_rows(
    queries: Array,
    query_labels: Array,
    database: Array,
    database_labels: Array,
    *,
    rows: slice = slice(None),
    recall_at: Sequence[int] = RECALL_AT,
    map_at: Sequence[int] = MAP_AT,
) -> QueryScores:
    """`score_queries` for the queries ``rows`` alone; the parts of several workers add up."""
    queries, query_labels = _labelled("queries", queries, "query_labels", query_labels)
    database, database_labels = _labelled("database", database, "database_labels", database_labels)
    recall_at, map_at = counts_of("recall_at", recall_at), counts_of("map_at", map_at)
    same_width(("queries", "the database"), queries, database)
    queries, query_labels = queries.to(database.device), query_labels.to(database.device)
    ranked = ranks_of_positives(queries[rows], query_labels[rows], database, database_labels)
    return _score_queries(ranked, recall_at, map_at)


def _labelled(
    name: str, descriptors: Array, name_of_labels: str, labels: Array
) -> tuple[Tensor, Tensor]:
    """Descriptors (n, d) as float32 and labels (n,) where they lie, n at least 1."""
    found = descriptors_of(name, descriptors, least=1)
    return found.float(), labels_of(name_of_labels, labels, len(found)).to(found.device)


def _score_queries(
    ranked: Iterable[tuple[Tensor, Tensor]], recall_at: tuple[int, ...], map_at: tuple[int, ...]
) -> QueryScores:
    """Score the queries of all tiles of ranks (t, p) and numbers of positives (t,)."""
    names = (
        *("average_precision", "precision_in_r", "r_precision", "reciprocal_rank"),
        *(f"recall_at_{k}" for k in recall_at),
        *(f"map_at_{k}" for k in map_at),
    )
    values = [torch.empty((0, len(names)), dtype=torch.float64)]
    curve = torch.zeros(NUM_RECALL_LEVELS, dtype=torch.float64)
    for ranks, num_positives in ranked:
        tile, curves = _score_tile(ranks, num_positives, recall_at, map_at)
        values.append(torch.stack([tile[name] for name in names], dim=1).cpu())  # (t, m)
        curve += curves[num_positives > 0].sum(dim=0).cpu()
    return QueryScores(names, torch.cat(values), curve)


def _score_tile(
    ranks: Tensor, num_positives: Tensor, recall_at: tuple[int, ...], map_at: tuple[int, ...]
) -> tuple[dict[str, Tensor], Tensor]:
    """Each query's metrics, float64, from its ranks (t, p); AP is NaN without a positive.

    Beside them its precision at recall (t, 101).
    """
    places = torch.arange(ranks.shape[1], device=ranks.device)
    real = places < num_positives[:, None]  # (t, p), False on padding
    precision = ((places + 1) / (ranks + 1).double()).where(real, 0.0)
    among_first_r = ranks < num_positives[:, None]  # (t, p), False on padding
    scores = {
        # 0 / 0 is the NaN that marks a query without a positive.
        "average_precision": precision.sum(dim=1) / num_positives,
        "precision_in_r": precision.where(among_first_r, 0.0).sum(dim=1) / num_positives,
        "r_precision": among_first_r.sum(dim=1) / num_positives.double(),
        "reciprocal_rank": 1 / (ranks[:, 0] + 1).double(),
    }
    for k in recall_at:
        scores[f"recall_at_{k}"] = (ranks[:, 0] < k).double()
    for k in map_at:
        precision_in_k = precision.where(ranks < k, 0.0).sum(dim=1)
        scores[f"map_at_{k}"] = precision_in_k / num_positives.clamp(max=k)
    return scores, _interpolate(precision, num_positives)


def _interpolate(precision: Tensor, num_positives: Tensor) -> Tensor:
    """Best precision (t, 101) at recall 0, 0.01, ..., 1 or more, given it at positives (t, p)."""
    best_from_here = precision.flip(1).cummax(dim=1).values.flip(1)
    percent = torch.arange(NUM_RECALL_LEVELS, device=precision.device)
    # Integers: the first positive whose recall reaches percent / 100, free of rounding.
    reached = (percent * num_positives[:, None] + 99) // 100 - 1  # (t, 101)
    return best_from_here.gather(1, reached.clamp(min=0))
