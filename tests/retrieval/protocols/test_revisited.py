"""The revisited protocol: published figures, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from apdist.retrieval.protocols.revisited import (
    score_list,
    score_revisited,
    trapezoid_average_precision,
)
from tests.retrieval.protocols.judgements import DATABASE, JUDGED, NAN, ground_truth

# From cnnimageretrieval-pytorch: one row of places, one column of queries.
RANKS = [[3, 0], [0, 4], [5, 1], [1, 3], [4, 5], [2, 2]]


EXPECTED = {
    "easy": (0.458333333333, [0.791666666667, 0.125], [0.5, 0.458333333333]),
    "medium": (0.677777777778, [0.763888888889, 0.591666666667], [1.0, 0.575]),
    "hard": (0.45625, [0.25, 0.6625], [0.5, 0.45]),
}


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([0], 1.0),
        ([0, 1, 2], 1.0),
        ([1], 0.25),
        ([0, 2], 0.7916666667),
        ([3, 7], 0.1607142857),
        ([0, 1, 5, 9], 0.7041666667),
        ([2, 3, 4], 0.3777777778),
        ([99], 0.005),
    ],
)
def test_trapezoid_average_precision_is_the_published_one(
    ranks: list[int], expected: float
) -> None:
    found = trapezoid_average_precision(np.array(ranks), len(ranks))
    assert found == pytest.approx(expected, abs=1e-9)


def test_positives_that_are_missing_from_the_list_count_as_never_found() -> None:
    assert trapezoid_average_precision(np.array([0, 4]), 5) == pytest.approx(0.265, abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "positives", "junk", "expected_ap", "expected_precision"),
    [
        ([3, 1, 0, 4, 2, 5], [3, 0], [1], 1.0, [1.0, 1.0, 1.0]),
        ([0, 4, 2, 1, 3, 5], [1, 2, 5], [0, 3], 0.5138888889, [0.0, 0.5, 0.75]),
        ([5, 4, 3, 2, 1, 0], [], [2], NAN, [NAN, NAN, NAN]),
        ([7, 2, 9], [5], [7], 0.0, [0.0, 0.0, 0.0]),
    ],
)
def test_one_list_scores_as_published(
    rows: list[int],
    positives: list[int],
    junk: list[int],
    expected_ap: float,
    expected_precision: list[float],
) -> None:
    found, precision = score_list(np.array(rows), positives, junk, (1, 2, 5))
    assert found == pytest.approx(expected_ap, abs=1e-9, nan_ok=True)
    assert precision == pytest.approx(expected_precision, abs=1e-9, nan_ok=True)


def test_precision_divides_by_the_place_of_the_last_positive_when_that_is_below_k() -> None:
    _, precision = score_list(np.arange(6), [0, 1], [], (1, 5, 10))
    assert precision == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("difficulty", list(EXPECTED))
def test_every_difficulty_scores_as_published(difficulty: str) -> None:
    rankings = np.array(RANKS).T
    scores = score_revisited(
        rankings, DATABASE, ground_truth(JUDGED), queries_are_cropped=True, precision_at=(1, 5)
    )[difficulty]
    mean, each, precision = EXPECTED[difficulty]
    assert scores.mean_average_precision == pytest.approx(mean, abs=1e-9)
    assert scores.average_precision.tolist() == pytest.approx(each, abs=1e-9)
    assert list(scores.precision_at.values()) == pytest.approx(precision, abs=1e-9)
    assert scores.num_queries_without_positive == 0


def test_a_query_without_positive_is_left_out_of_the_means() -> None:
    judged = [*JUDGED, {"easy": [1], "hard": [], "junk": []}]
    rankings = [*np.array(RANKS).T.tolist(), [5, 4, 3, 2, 1, 0]]
    scores = score_revisited(rankings, DATABASE, ground_truth(judged), queries_are_cropped=True)
    assert scores["hard"].num_queries_without_positive == 1
    assert scores["hard"].average_precision[2].isnan()
    assert scores["hard"].mean_average_precision == pytest.approx(0.45625)
    assert scores["easy"].num_queries_without_positive == 0


def test_uncropped_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="crop each query to its box"):
        score_revisited(
            np.array(RANKS).T, DATABASE, ground_truth(JUDGED), queries_are_cropped=False
        )


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
        score_revisited(rankings, DATABASE, ground_truth(JUDGED), queries_are_cropped=True)


def test_a_difficulty_that_no_query_has_is_refused() -> None:
    judged = [{"easy": [1], "hard": [], "junk": []}]
    with pytest.raises(ValueError, match="no query of the ground truth has a hard positive"):
        score_revisited([[0, 1]], DATABASE, ground_truth(judged), queries_are_cropped=True)
