"""Judged queries for the tests."""

from __future__ import annotations

from apdist.retrieval.revisited import (
    GroundTruth,
    RevisitedQuery,
)

BOX = (10.5, 20.0, 110.5, 220.0)


JUDGED = [
    {"easy": [0, 1], "hard": [4], "junk": [3]},
    {"easy": [2], "hard": [0, 5], "junk": []},
]


NAN = float("nan")


def ground_truth(judged: list[dict[str, list[int]]], num_images: int = 6) -> GroundTruth:
    queries = tuple(
        RevisitedQuery(
            image=f"query {i}",
            box=BOX,
            easy=tuple(entry["easy"]),
            hard=tuple(entry["hard"]),
            junk=tuple(entry["junk"]),
        )
        for i, entry in enumerate(judged)
    )
    return GroundTruth(database=tuple(f"bild ü {i}" for i in range(num_images)), queries=queries)
