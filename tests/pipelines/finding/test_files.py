"""What programs read of a search."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from apdist.retrieval.querying.results import SearchResults, results_of
from apdist_verbs.finding.files import CsvWriter, JsonWriter, opened_target

ENTRIES = pa.table(
    {"key": ['a"b', "c,\nd", "ü"], "width": [1.5, float("nan"), None], "offset": [1, 2, 3]}
)


def some(*names: str, unread: tuple[tuple[str, str], ...] = ()) -> SearchResults:
    scores = torch.tensor([[0.91234567, 0.5, 0.25]] * len(names)).reshape(-1, 3)
    rows = torch.tensor([[0, 1, 2]] * len(names), dtype=torch.long).reshape(-1, 3)
    return results_of(2, (range(len(names)), names), (scores, rows), ENTRIES, unread=unread)


def test_csv_has_a_row_for_each_result_below_its_names() -> None:
    target = io.StringIO()
    writer = CsvWriter(target)
    for results in (some("p", "q"), some(), some("r")):
        writer.add(results)
    writer.end()
    rows = list(csv.DictReader(io.StringIO(target.getvalue())))
    assert list(rows[0]) == ["query", "rank", "score", "key", "width"]
    assert [row["query"] for row in rows] == list("ppqqrr")
    assert list(rows[0].values()) == ["p", "1", "0.912346", 'a"b', "1.5"]
    assert list(rows[1].values()) == ["p", "2", "0.5", "c,\nd", ""]


def test_json_is_a_list_with_an_object_on_each_line() -> None:
    target = io.StringIO()
    writer = JsonWriter(target)
    writer.add(some("p", unread=(("bad.png", "is empty"),)))
    writer.add(some("q"))
    writer.end()
    found = json.loads(target.getvalue())
    assert len(target.getvalue().splitlines()) == 5
    assert found[1] == {"query": "bad.png", "error": "is empty"}
    assert found[2]["query"] == "q"
    assert found[2]["results"] == [
        {"rank": 1, "score": 0.912346, "key": 'a"b', "width": 1.5},
        {"rank": 2, "score": 0.5, "key": "c,\nd", "width": None},
    ]
    empty = io.StringIO()
    JsonWriter(empty).end()
    assert json.loads(empty.getvalue()) == []


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.csv"
    with opened_target(str(path)) as file:
        file.write("ä\n")
    with pytest.raises(TypeError), opened_target(str(path)) as file:
        file.write(b"half")  # type: ignore[arg-type]
    assert path.read_text() == "ä\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["out.csv"]
