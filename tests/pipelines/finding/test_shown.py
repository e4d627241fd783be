"""What a person is told of a search."""

import pyarrow as pa
import pytest
import torch

from apdist.retrieval.querying.results import SearchResults, results_of
from apdist_verbs.finding.shown import Shown

ENTRIES = pa.table({"key": ["a", "b", "c"], "label_name": ["[cat]", "dog", "cow"]})


def some(number: int, least_score: float = -1.0) -> SearchResults:
    names = [f"q{n}" for n in range(number)]
    scores = torch.tensor([[0.9, 0.5, 0.25]] * number)
    rows = torch.tensor([[0, 1, 2]] * number)
    return results_of(3, (range(number), names), (scores, rows), ENTRIES, least_score=least_score)


def test_few_queries_have_a_table_each_and_many_a_line_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = Shown(3, 3)
    few.add(some(2))
    few.print_tables("here")
    out = capsys.readouterr().out
    assert out.count("[cat]") == out.count("0.2500") == 2
    many = Shown(3, 3)
    for _ in range(3):
        many.add(some(9))
    many.print_tables("here")
    out = capsys.readouterr().out
    assert out.count("0.9000") == 20
    assert "0.5000" not in out
    assert "and 7 queries more: --csv, --json or --html has all" in out


def test_what_is_missing_is_told() -> None:
    plenty = Shown(3, 8)
    plenty.add(some(4))
    assert plenty.told() == ("4 queries among 8 images", [])
    short = Shown(3, 1)
    short.add(some(2, 0.4))
    assert short.told()[1] == [
        "2 of 2 queries with fewer than the 3 results asked for: only 1 image can be found"
    ]
    near = Shown(3, 8, least_score=0.2)
    near.add(some(2, 0.2))
    near.add(some(1, 0.95))
    near.unread.append(("x", "is empty"))
    assert near.told() == (
        "3 queries among 8 images",
        [
            "2 of 3 queries with a result of cosine 0.2 or more",
            "2 of 3 queries with all 3 results of cosine 0.2 or more: a larger -k may find more",
            "1 of 4 queries could not be read",
        ],
    )
