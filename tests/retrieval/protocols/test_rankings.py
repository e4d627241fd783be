"""Ranked lists that somebody made: published figures, refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.retrieval.protocols.rankings import score_rankings
from tests.retrieval.protocols.judgements import DATABASE, JUDGED, ground_truth

# From cnnimageretrieval-pytorch: one row of places, one column of queries.
RANKS = [[3, 0], [0, 4], [5, 1], [1, 3], [4, 5], [2, 2]]
EXPECTED = {
    "easy": (0.458333333333, [0.791666666667, 0.125], [0.5, 0.458333333333]),
    "medium": (0.677777777778, [0.763888888889, 0.591666666667], [1.0, 0.575]),
    "hard": (0.45625, [0.25, 0.6625], [0.5, 0.45]),
}


def scored(rankings: Any, judged: list[dict[str, list[int]]] = JUDGED, **options: Any) -> Any:
    truth = ground_truth(judged)
    found = score_rankings(rankings, DATABASE, truth, queries_are_cropped=True, **options)
    return {scores.part: scores for scores in found}


@pytest.mark.parametrize("part", list(EXPECTED))
def test_every_difficulty_scores_as_published(part: str) -> None:
    scores = scored(np.array(RANKS).T, precision_at=(1, 5))[part]
    mean, each, precision = EXPECTED[part]
    found = list(scores.figures.values())
    assert found == pytest.approx([mean, *precision], abs=1e-9)
    assert scores.of_queries.tolist() == pytest.approx(each, abs=1e-9)
    assert (scores.num_queries, scores.num_queries_without_positive) == (2, 0)


def test_a_query_without_positive_is_left_out_of_the_means() -> None:
    judged = [*JUDGED, {"easy": [1], "hard": [], "junk": []}]
    scores = scored([*np.array(RANKS).T.tolist(), [5, 4, 3, 2, 1, 0]], judged)
    assert scores["hard"].num_queries_without_positive == 1
    assert scores["hard"].of_queries[2].isnan()
    assert scores["hard"].figures["map_trapezoid"] == pytest.approx(0.45625)
    assert scores["easy"].num_queries_without_positive == 0


def test_positives_that_are_missing_from_a_list_count_as_never_found() -> None:
    whole = scored([[3, 0, 5, 1, 4, 2], [0, 4, 1, 3, 5, 2]])["easy"].of_queries
    short = scored([[3, 0, 5], [0, 4, 1]])["easy"].of_queries
    assert short.tolist() == [whole[0] - (1 / 2 + 2 / 3) / 2 / 2, 0.0]


def classic(judged: list[dict[str, list[int]]]) -> GroundTruth:
    queries = tuple(
        JudgedQuery(
            key=f"q{number}",
            box=(0, 0, 1, 1),
            **{name: tuple(DATABASE[row] for row in rows) for name, rows in lists.items()},
        )
        for number, lists in enumerate(judged)
    )
    return GroundTruth(protocol="classic", queries=queries)


def test_classic_lists_score_as_published() -> None:
    # The case `compute_map_basic` of revisitop and dirtorch: one column of queries.
    ranks = [[3, 0, 5], [1, 4, 4], [0, 2, 3], [4, 1, 2], [2, 3, 1], [5, 5, 0]]
    truth = classic(
        [
            {"positives": [3, 0], "junk": [1]},
            {"positives": [1, 2, 5], "junk": [0, 3]},
            {"positives": [], "junk": [2]},
        ]
    )
    [scores] = score_rankings(
        np.array(ranks).T, DATABASE, truth, queries_are_cropped=True, precision_at=(1, 2, 5)
    )
    assert scores.part == "all"
    assert scores.figures["map_trapezoid"] == pytest.approx(0.7569444444, abs=1e-9)
    each = [1.0, 0.5138888889, float("nan")]
    assert scores.of_queries.tolist() == pytest.approx(each, abs=1e-9, nan_ok=True)
    precision = [scores.figures[f"precision_at_{k}"] for k in (1, 2, 5)]
    assert precision == pytest.approx([0.5, 0.75, 0.875], abs=1e-9)


def test_a_list_without_any_positive_scores_nothing_where_published_code_fails() -> None:
    truth = classic([{"positives": [5], "junk": [1]}])
    [scores] = score_rankings(
        [[1, 2, 3]], DATABASE, truth, queries_are_cropped=True, precision_at=(1,)
    )
    assert set(scores.figures.values()) == {0.0}


def test_uncropped_queries_are_refused_where_there_are_boxes() -> None:
    truth = dataclasses.replace(ground_truth(JUDGED), protocol="own")
    whole, boxed = dataclasses.replace(truth.queries[0], box=None), truth.queries[1]
    for queries in (truth.queries, (whole, boxed)):
        some = dataclasses.replace(truth, queries=queries)
        with pytest.raises(ValueError, match="crop each query to its box"):
            score_rankings(np.array(RANKS).T, DATABASE, some, queries_are_cropped=False)


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([[0, 1]], "a ranking for each of 2 queries, got 1"),
        ([[0, 1], [0, 0]], "ranking 1: names row 0 twice"),
        ([[0, 6], [0, 1]], "ranking 0: there are rows 0 to 5, got 6"),
        ([[-1, 0], [0, 1]], "ranking 0: there are rows 0 to 5, got -1"),
    ],
)
def test_impossible_rankings_are_refused(rankings: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scored(rankings)


def test_a_difficulty_that_no_query_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no query of the ground truth has a hard positive"):
        scored([[0, 1]], [{"easy": [1], "hard": [], "junk": []}])
