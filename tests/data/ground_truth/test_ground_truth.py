"""Ground truths that contradict themselves are refused."""

from __future__ import annotations

from typing import Any

import pytest

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery

BOX = (0.0, 0.0, 5.0, 9.0)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"box": (5, 0, 5, 9)}, "box must be left < right"),
        ({"box": (0, 0, float("nan"), 9)}, "box must be left < right"),
        ({"easy": ("a", "b"), "junk": ("b",)}, "image 'b' is judged twice"),
        ({"positives": ("a", "a")}, "image 'a' is judged twice"),
    ],
)
def test_a_query_that_contradicts_itself_is_refused(query: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"query 'q': {message}"):
        JudgedQuery(key="q", **query)


def query(key: str = "q", **judged: Any) -> JudgedQuery:
    return JudgedQuery(key=key, **judged)


@pytest.mark.parametrize(
    ("protocol", "queries", "message"),
    [
        ("own", (), "expected queries, found none"),
        ("mine", (query(positives=("a",)),), "protocol must be one of revisited, .* got 'mine'"),
        ("own", (query(junk=("a",)),), "none of the 1 queries has a positive"),
        ("own", (query(positives=("a",)), query("r", hard=("b",))), "found both; keep one"),
        ("holidays", (query(easy=("a",)),), "holidays knows positives of one kind"),
        ("revisited", (query(box=BOX, positives=("a",)),), "needs easy and hard positives"),
        ("own", (query(positives=("a",)),) * 2, "query 'q' is there 2 times"),
        ("revisited", (query(easy=("a",)),), "has no box: .* uncropped ones inflate"),
        ("classic", (query(positives=("a",)),), "has no box"),
        ("own", (query(positives=("q",)),), "is its own positive"),
    ],
)
def test_a_ground_truth_that_contradicts_itself_is_refused(
    protocol: Any, queries: tuple[JudgedQuery, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GroundTruth(protocol=protocol, queries=queries)


def test_one_image_may_be_two_queries_and_a_classic_query_its_own_positive() -> None:
    parts = query(box=BOX, positives=("q",)), query(box=(1, 1, 2, 2), positives=("q", "a"))
    assert not GroundTruth(protocol="classic", queries=parts).is_graded
