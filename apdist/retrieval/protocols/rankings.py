"""Scores of ranked lists that somebody made, by the protocol of a ground truth.

Shapes: q queries, n database images, k places of a ranked list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apdist.arrays import counts_of, rows_of, shown
from apdist.data.ground_truth.ground_truth import GroundTruth
from apdist.given import keys_of
from apdist.retrieval.protocols.judging import rows_of_keys
from apdist.retrieval.protocols.rules import Ranks
from apdist.retrieval.protocols.scores import FIGURES, JudgedScores, score_parts


def score_rankings(
    rankings: Sequence[Sequence[int]] | NDArray[np.integer] | Tensor,
    database: Sequence[str],
    ground_truth: GroundTruth,
    *,
    queries_are_cropped: bool,
    precision_at: Sequence[int] = (),
) -> list[JudgedScores]:
    """Scores of each part: easy, medium and hard, or all.

    Args:
        rankings: (q, k) database rows of each query, best first; a positive missing from a list
            that stops early counts as never found.
        database: (n,) keys of the database images, by row.
        ground_truth: judged queries, in the order of the rankings.
        queries_are_cropped: whether each query was described from `JudgedQuery.box` alone.
        precision_at: the k of mP@k, in place of the protocol's.

    Raises:
        ValueError: uncropped queries, another number of rankings, a list that names an image twice
            or one that does not exist, images judged that are not in the database, or a part in
            which no query has a positive.
    """
    database = keys_of("database", database)
    judged = rows_of_keys(ground_truth, database)
    if not queries_are_cropped and any(query.box for query in ground_truth.queries):
        raise ValueError(
            "the queries were described from whole images, which inflates the results; "
            "crop each query to its box (JudgedQuery.box) and describe it again"
        )
    depths = counts_of("precision_at", precision_at)
    lists = _lists(rankings, len(judged), len(database))

    def ranks_of(number: int, positives: tuple[int, ...], junk: tuple[int, ...]) -> Ranks:
        kept = lists[number][~np.isin(lists[number], junk)]
        return np.flatnonzero(np.isin(kept, positives))

    keys = list(FIGURES[ground_truth.protocol])
    if depths:
        keys = [key for key in keys if not key.startswith("precision_at_")]
        keys += [f"precision_at_{k}" for k in depths]
    return score_parts(ground_truth, judged, ranks_of, keys)


def _lists(
    rankings: Sequence[Sequence[int]] | NDArray[np.integer] | Tensor,
    num_queries: int,
    num_images: int,
) -> list[NDArray[np.int64]]:
    if not hasattr(rankings, "__len__") or len(rankings) != num_queries:
        is_turned = tuple(getattr(rankings, "shape", ()))[1:] == (num_queries,)
        got = len(rankings) if hasattr(rankings, "__len__") else shown(rankings)
        raise ValueError(
            f"expected a ranking for each of {num_queries} queries, got {got}"
            f"{'; they look turned round: pass rankings.T' if is_turned else ''}"
        )
    return [rows_of(f"ranking {i}", rows, num_images) for i, rows in enumerate(rankings)]
