"""Judged queries for the tests."""

from __future__ import annotations

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery

BOX = (10.5, 20.0, 110.5, 220.0)
JUDGED = [
    {"easy": [0, 1], "hard": [4], "junk": [3]},
    {"easy": [2], "hard": [0, 5], "junk": []},
]
DATABASE = tuple(f"bild ü {i}" for i in range(6))
NAN = float("nan")


def ground_truth(judged: list[dict[str, list[int]]]) -> GroundTruth:
    """Of the images of `DATABASE`, named by rows."""
    queries = tuple(
        JudgedQuery(
            key=f"query {i}",
            box=BOX,
            **{name: tuple(DATABASE[row] for row in rows) for name, rows in entry.items()},
        )
        for i, entry in enumerate(judged)
    )
    return GroundTruth(protocol="revisited", queries=queries)
