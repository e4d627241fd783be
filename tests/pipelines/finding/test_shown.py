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


def test_queries_that_could_not_be_read_are_named_a_few_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = Shown(3, 8)
    shown.unread.append(("x0", "is empty"))
    with pytest.raises(ValueError, match="^the query image x0 is empty; give another, or mend"):
        shown.refuse_none()
    shown.unread += [(f"x{n}", "is empty") for n in range(1, 7)]
    with pytest.raises(ValueError, match="^none of the 7 query images could be read; the first"):
        shown.refuse_none()
    shown.add(some(1))
    shown.refuse_none()
    shown.print_counts()
    told = capsys.readouterr().err
    assert "x4 is empty" in told
    assert "x5" not in told
    assert "and 2 more" in told


def test_a_column_is_shown_where_any_result_has_something_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = pa.table({"key": ["a", "b"], "label_name": ["", "dog"]})
    found = (torch.tensor([[0.9, 0.5]]), torch.tensor([[0, 1]]))
    shown = Shown(2, 2)
    shown.add(results_of(2, (range(1), ["q"]), found, entries, least_score=-1.0))
    shown.print_tables("here")
    told = capsys.readouterr().out
    assert "class" in told
    assert "dog" in told
