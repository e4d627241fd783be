"""The figures of a protocol, from the ranks of each query's positives.

    easy:   positives easy,           junk too: hard
    medium: positives easy and hard
    hard:   positives hard,           junk too: easy
    all:    where positives are of one kind

Shapes: q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apdist.data.ground_truth.ground_truth import GroundTruth
from apdist.retrieval.protocols.judging import JudgedRows
from apdist.retrieval.protocols.rules import Ranks, rule

GRADED = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
UNGRADED: dict[str, tuple[str, ...]] = {"all": ("positives",)}
FIGURES: dict[str, tuple[str, ...]] = {
    "revisited": ("map_trapezoid", "precision_at_1", "precision_at_5", "precision_at_10"),
    "classic": ("map_trapezoid", "map"),
    "holidays": ("map_trapezoid", "map"),
    "landmarks": ("map_at_100",),
    "ilias": ("map_at_1000",),
    "own": (
        *("map", "map_trapezoid", "map_at_r", "r_precision", "mean_reciprocal_rank"),
        *("recall_at_1", "recall_at_5", "recall_at_10"),
    ),
}
"""Keys of the figures of each protocol; the first is the one that papers print."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedScores:
    """Figures of judged queries; the means run over the queries that have a positive."""

    part: str
    """Which positives count: easy, medium, hard, or all."""
    figures: dict[str, float]
    """Means over the queries, by key; the first is the main one."""
    of_queries: Tensor
    """(q,) float64 main figure of each query, NaN where it has no positive in this part."""
    num_queries: int
    """All queries, with or without a positive."""
    num_queries_without_positive: int
    """Queries left out of the means."""


def score_parts(
    ground_truth: GroundTruth,
    judged: Sequence[JudgedRows],
    ranks_of: Callable[[int, tuple[int, ...], tuple[int, ...]], Ranks],
    keys: Sequence[str] = (),
) -> list[JudgedScores]:
    """Scores of each part of the protocol of ``ground_truth``.

    Args:
        ground_truth: names the protocol.
        judged: rows of each query, in its order.
        ranks_of: of a query's number, the rows that are positives and those that are junk: ranks of
            the positives.
        keys: figures in place of the protocol's.

    Raises:
        ValueError: a part in which no query has a positive.
    """
    refuse_unanswerable(ground_truth, judged)
    keys = keys or FIGURES[ground_truth.protocol]
    found = []
    for part, names in _parts(ground_truth).items():
        values = np.full((len(judged), len(keys)), np.nan)  # (q, number of figures)
        for number, rows in enumerate(judged):
            positives = rows.of(names)
            if positives:
                junk = tuple(set(rows.all) - set(positives))
                ranks = ranks_of(number, positives, junk)
                values[number] = [rule(key)(ranks, len(positives)) for key in keys]
        found.append(_means(part, tuple(keys), values))
    return found


def refuse_unanswerable(ground_truth: GroundTruth, judged: Sequence[JudgedRows]) -> None:
    """Refuse a part of the protocol in which no query has a positive.

    Raises:
        ValueError: there is one.
    """
    for part, names in _parts(ground_truth).items():
        if not any(rows.of(names) for rows in judged):
            kind = "positive" if part == "all" else f"{part} positive"
            raise ValueError(f"no query of the ground truth has a {kind}; check the file")


def _parts(ground_truth: GroundTruth) -> dict[str, tuple[str, ...]]:
    """The lists of positives that count in each part."""
    return GRADED if ground_truth.is_graded else UNGRADED


def _means(part: str, keys: tuple[str, ...], values: np.ndarray) -> JudgedScores:
    answerable = ~np.isnan(values[:, 0])
    means = values[answerable].mean(axis=0).tolist()
    return JudgedScores(
        part=part,
        figures=dict(zip(keys, means, strict=True)),
        of_queries=torch.from_numpy(values[:, 0].copy()),
        num_queries=len(values),
        num_queries_without_positive=int((~answerable).sum()),
    )
