import pyarrow as pa
import torch

from apdist.retrieval.querying.results import joined, results_of, told_score

ENTRIES = pa.table({"key": list("abcd"), "score": [5, 6, 7, 8]})


def test_what_is_left_out_makes_room_for_the_next() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.9, 0.5, 0.4, 0.3]])
    rows = torch.tensor([[0, 1, 2, 3], [3, 2, 1, -1]])
    found = results_of(
        2, ([4, 6], ["p", "q"]), (scores, rows), ENTRIES, own=torch.tensor([0, 0]), least_score=0.45
    )
    assert found.num_found == (2, 2)
    assert (found.num_short, found.num_answered) == (0, 2)
    assert [(r["number"], r["rank"], r["key"], r["image_score"]) for r in found.to_pylist()] == [
        (4, 1, "b", 6),
        (4, 2, "c", 7),
        (6, 1, "d", 8),
        (6, 2, "c", 7),
    ]
    more = results_of(2, ([7], ["s"]), (scores[1:], rows[1:]), ENTRIES, unread=[("r", "is cut")])
    both = joined([found, more])
    assert [(query, len(rows)) for query, rows in both.by_query()] == [("p", 2), ("q", 2), ("s", 2)]
    assert both.to_pandas()["number"].tolist() == [4, 4, 6, 6, 7, 7]
    assert repr(both) == "<SearchResults: 3 queries, k=2, 6 results, 1 more could not be read>"


def test_what_counts_is_there_and_reaches_the_least_score() -> None:
    scores = torch.tensor([[0.75, 0.5, 0.25], [0.75, 0.25, 0.2], [0.2, 0.1, 0.1]])
    rows = torch.tensor([[3, 1, 0], [-1, 2, 0], [0, 1, 2]])
    found = results_of(3, ([0, 1, 2], ["p", "q", "r"]), (scores, rows), ENTRIES, least_score=0.5)
    assert [(r["query"], r["key"]) for r in found.to_pylist()] == [("p", "d"), ("p", "b")]
    assert found.num_found == (2, 0, 0)
    assert (found.num_short, found.num_answered) == (3, 1)
    assert repr(found) == "<SearchResults: 3 queries, k=3, 2 results, 3 with fewer than k>"


def test_no_score_is_told_as_a_cosine_over_one() -> None:
    assert told_score(1.0000001192092896) == 1.0
    assert told_score(-0.12345678) == -0.123457
