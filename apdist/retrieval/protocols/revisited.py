"""The revisited Oxford and Paris protocol: easy, medium and hard positives, junk, trapezoid AP.

Radenovic, Iscen, Tolias, Avrithis, Chum, CVPR 2018, arXiv:1803.11285.

Shapes: q queries, k places of a ranked list. Ranks count from 0, after junk has been removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.arrays import Array, count_of, counts_of, rows_of, shown
from apdist.data.ground_truth.ground_truth import GroundTruth
from apdist.retrieval.protocols.judging import JudgedRows, rows_of_keys

DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True, kw_only=True, eq=False)
class RevisitedScores:
    """Figures of one difficulty; the means run over the queries that have a positive in it."""

    mean_average_precision: float
    """Mean AP by the trapezoid rule."""
    precision_at: dict[int, float]
    """mP@k: positives among the first min(k, 1 + rank of the last positive), over that number."""
    average_precision: Tensor
    """(q,) float64, NaN where the query has no positive of this difficulty."""
    num_queries_without_positive: int
    """Queries left out of the means."""


def score_revisited(
    rankings: Sequence[Sequence[int]] | NDArray[np.integer] | Tensor,
    database: Sequence[str],
    ground_truth: GroundTruth,
    *,
    queries_are_cropped: bool,
    precision_at: Sequence[int] = (1, 5, 10),
) -> dict[str, RevisitedScores]:
    """Scores of each difficulty, "easy", "medium" and "hard".

        easy:   positives easy,           junk too: hard
        medium: positives easy and hard
        hard:   positives hard,           junk too: easy

    Args:
        rankings: (q, k) database rows of each query, best first; a positive missing from a list
            that stops early counts as never found.
        database: keys of the database images, by row.
        ground_truth: easy and hard positives and junk, queries in the order of the rankings.
        queries_are_cropped: whether each query was described from `JudgedQuery.box` alone.
        precision_at: the k of mP@k.

    Raises:
        ValueError: uncropped queries, another number of rankings, a list that names an image twice
            or one that does not exist, or a difficulty in which no query has a positive.
    """
    if not queries_are_cropped:
        raise ValueError(
            "the queries were described from whole images, which inflates the results; "
            "crop each query to its box (JudgedQuery.box) and describe it again"
        )
    precision_at = counts_of("precision_at", precision_at)
    judged = rows_of_keys(ground_truth, database)
    num_queries, num_images = len(ground_truth.queries), len(database)
    if not hasattr(rankings, "__len__") or len(rankings) != num_queries:
        is_turned = tuple(getattr(rankings, "shape", ()))[1:] == (num_queries,)
        got = len(rankings) if hasattr(rankings, "__len__") else shown(rankings)
        raise ValueError(
            f"expected a ranking for each of {num_queries} queries, got {got}"
            f"{'; they look turned round: pass rankings.T' if is_turned else ''}"
        )
    lists = [rows_of(f"ranking {i}", rows, num_images) for i, rows in enumerate(rankings)]
    return {
        difficulty: _score_difficulty(lists, judged, difficulty, precision_at)
        for difficulty in DIFFICULTIES
    }


def score_list(
    rows: Array, positives: Array, junk: Array, precision_at: Sequence[int]
) -> tuple[float, list[float]]:
    """AP and P@k of one ranked list, (k,) database rows; NaN for a query without a positive.

    Raises:
        ValueError: they are no lists of rows, or one names a row twice.
    """
    most = np.iinfo(np.int64).max
    rows, precision_at = rows_of("rows", rows, most), counts_of("precision_at", precision_at)
    positives, junk = rows_of("positives", positives, most), rows_of("junk", junk, most)
    if not len(positives):
        return float("nan"), [float("nan")] * len(precision_at)
    kept = rows[~np.isin(rows, junk)]
    ranks = np.flatnonzero(np.isin(kept, positives))
    return (
        trapezoid_average_precision(ranks, len(positives)),
        [_precision_at(ranks, k) for k in precision_at],
    )


def trapezoid_average_precision(ranks: Array, num_positives: int) -> float:
    """Area under the precision-recall curve by the trapezoid rule, from ascending ``ranks``.

        mean over positives of the precision before it and at it, halved:
            (i / rank_i + (i + 1) / (rank_i + 1)) / 2       with i / rank_i = 1 at rank 0

    A single positive at rank 1 scores 0.25, where the sum rule says 0.5.

    Raises:
        ValueError: the ranks do not rise, or there are more of them than positives.
    """
    ranks = rows_of("ranks", ranks, np.iinfo(np.int64).max)
    if np.any(np.diff(ranks) < 0):
        raise ValueError(f"ranks must rise, got {shown(ranks.tolist())}")
    num_positives = count_of("num_positives", num_positives, max(1, len(ranks)))
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    at = (found + 1) / (ranks + 1)
    return float((before + at).sum() / 2 / num_positives)


def _precision_at(ranks: NDArray[np.integer], k: int) -> float:
    """Share of positives among the first min(k, 1 + last rank); 0 when none was found."""
    if not len(ranks):
        return 0.0
    depth = min(k, int(ranks[-1]) + 1)
    return float((ranks < depth).sum() / depth)


def _score_difficulty(
    lists: list[NDArray[np.int64]],
    queries: list[JudgedRows],
    difficulty: str,
    precision_at: tuple[int, ...],
) -> RevisitedScores:
    average_precision, precision = [], []
    for rows, query in zip(lists, queries, strict=True):
        positives, junk = _judge(query, difficulty)
        ap, at_k = score_list(rows, positives, junk, precision_at)
        average_precision.append(ap)
        precision.append(at_k)
    scores = np.array(average_precision)
    answerable = ~np.isnan(scores)
    if not answerable.any():
        raise ValueError(
            f"no query of the ground truth has a {difficulty} positive; check the file"
        )
    means = np.array(precision)[answerable].mean(axis=0)
    return RevisitedScores(
        mean_average_precision=float(scores[answerable].mean()),
        precision_at=dict(zip(precision_at, means.tolist(), strict=True)),
        average_precision=torch.from_numpy(scores),
        num_queries_without_positive=int((~answerable).sum()),
    )


def _judge(query: JudgedRows, difficulty: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positives and junk of a query at a difficulty."""
    if difficulty == "easy":
        return query.easy, query.junk + query.hard
    if difficulty == "medium":
        return query.easy + query.hard, query.junk
    return query.hard, query.junk + query.easy
