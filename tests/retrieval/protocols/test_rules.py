"""Rules: published figures, and slow definitions that walk along the ranked list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apdist.retrieval.protocols.rules import (
    average_precision,
    rule,
    trapezoid_average_precision,
)


@pytest.mark.parametrize(
    ("ranks", "trapezoid", "sum_rule"),
    [
        ([0], 1.0, 1.0),
        ([0, 1, 2], 1.0, 1.0),
        ([1], 0.25, 0.5),
        ([0, 2], 0.7916666667, 0.8333333333),
        ([3, 7], 0.1607142857, 0.25),
        ([0, 1, 5, 9], 0.7041666667, 0.725),
        ([2, 3, 4], 0.3777777778, 0.4777777778),
        ([99], 0.005, 0.01),
    ],
)
def test_average_precision_by_both_rules_is_the_published_one(
    ranks: list[int], trapezoid: float, sum_rule: float
) -> None:
    # Of revisitop and dirtorch, and of scikit-learn.
    found = trapezoid_average_precision(np.array(ranks), len(ranks))
    assert found == pytest.approx(trapezoid, abs=1e-9)
    assert average_precision(np.array(ranks), len(ranks)) == pytest.approx(sum_rule, abs=1e-9)


def test_positives_that_are_missing_from_the_list_count_as_never_found() -> None:
    assert trapezoid_average_precision(np.array([0, 4]), 5) == pytest.approx(0.265, abs=1e-9)


# Ranking 1 0 1 1 0 0 1 0 of a query with six positives, two of them not in the list: what five
# libraries make of it (the case `map_at_k_conventions`).
RANKS = np.array([0, 2, 3, 6])


def test_map_at_k_divides_by_the_smaller_of_k_and_the_number_of_positives() -> None:
    assert rule("map_at_5")(RANKS, 6) == pytest.approx(0.483333333333, abs=1e-9)
    # pytorch-metric-learning divides by all six, which no ranking of five can reach.
    assert rule("map_at_5")(RANKS, 6) * 5 / 6 == pytest.approx(0.402777777778, abs=1e-9)


def test_precision_divides_by_the_place_of_the_last_positive_when_that_is_below_k() -> None:
    found = [rule(f"precision_at_{k}")(np.array([0, 1]), 2) for k in (1, 5, 10)]
    assert found == [1.0, 1.0, 1.0]
    assert rule("precision_at_10")(np.array([], np.int64), 2) == 0.0


def slow(hits: list[bool], num_positives: int, k: int) -> dict[str, float]:
    """Each figure as its definition reads, along a list of right and wrong answers."""
    found, total, area, at_k, at_r = 0, 0.0, 0.0, 0.0, 0.0
    precision_before, first, last = 1.0, 0, 0
    for place, hit in enumerate(hits, start=1):
        found += hit
        precision = found / place
        if hit:
            total += precision
            at_k += precision if place <= k else 0
            at_r += precision if place <= num_positives else 0
            first, last = first or place, place
        # The loop of compute_ap.cpp: recall grows by a step where there is a hit.
        area += hit / num_positives * (precision_before + precision) / 2
        precision_before = precision
    depth = min(k, last)
    return {
        "map": total / num_positives,
        "map_trapezoid": area,
        f"map_at_{k}": at_k / min(k, num_positives),
        "map_at_r": at_r / num_positives,
        "r_precision": sum(hits[:num_positives]) / num_positives,
        "mean_reciprocal_rank": 1 / first if first else 0.0,
        f"recall_at_{k}": float(any(hits[:k])),
        f"precision_at_{k}": sum(hits[:depth]) / depth if depth else 0.0,
    }


@given(
    hits=st.lists(st.booleans(), max_size=30),
    missing=st.integers(0, 5),
    k=st.integers(1, 12),
)
def test_every_rule_equals_its_slow_definition(hits: list[bool], missing: int, k: int) -> None:
    num_positives = sum(hits) + missing
    if num_positives:
        ranks = np.flatnonzero(hits)
        for key, expected in slow(hits, num_positives, k).items():
            assert rule(key)(ranks, num_positives) == pytest.approx(expected, abs=1e-12), key
