"""Ground truth written and read, as Parquet and as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.data.ground_truth.ground_truth_file import read_ground_truth, write_ground_truth
from tests.retrieval.protocols.judgements import JUDGED, ground_truth

PLAIN = GroundTruth(
    protocol="holidays",
    queries=(JudgedQuery(key="ü 1", positives=("a",)), JudgedQuery(key="2", junk=("b", "c"))),
)


@pytest.mark.parametrize("expected", [PLAIN, ground_truth(JUDGED)])
def test_what_was_written_reads_back_equal(tmp_path: Path, expected: GroundTruth) -> None:
    uri = str(tmp_path / "ground_truth.parquet")
    write_ground_truth(uri, expected)
    assert read_ground_truth(uri) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["ground_truth.parquet"]


def test_a_text_is_read_with_both_separators_and_empty_cells(tmp_path: Path) -> None:
    text = "query,box,positives,junk\nq 1,1 2 3 4.5,a b| c,d;e\nq2,,f,\n"
    (tmp_path / "own.csv").write_text(text)
    assert read_ground_truth(str(tmp_path / "own.csv")) == GroundTruth(
        protocol="own",
        queries=(
            JudgedQuery(key="q 1", box=(1, 2, 3, 4.5), positives=("a b", "c"), junk=("d", "e")),
            JudgedQuery(key="q2", positives=("f",)),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,positive\nq,a\n", "no column is called 'positive'; did you mean 'positives'"),
        ("query,label\nq,a\n", "no column is called 'label'; there are query, box"),
        ("query,positives,positives\nq,a,b\n", "it has two columns 'positives'; keep one"),
        ("query,easy\nq,a\n", "expected the columns query and positives"),
        ("query,positives\n,a\n", "line 2 names no query"),
        ("query,positives,box\nq,a,1 2 x 4\n", "line 2: box must be four numbers, got '1 2 x 4'"),
        ("query,positives,box\nq,a,1 2 3\n", "line 2: box must be left, top, right, bottom"),
        ("query,positives\nq,\n", "none of the 1 queries has a positive"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(ValueError, match=f"own.csv is no ground truth: {message}"):
        read_ground_truth(str(tmp_path / "own.csv"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["q"], "positives": ["a"]}, "column 'positives' must be list<.*>, found string"),
        ({"query": [None], "positives": [["a"]]}, "row 0 names no query"),
        ({"query": ["q"], "positives": [[None]]}, "positives holds an image without a name"),
        ({"query": ["q"], "positives": [["a"]], "box": [[1.0]]}, "box must be left, top"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "own.parquet")
    with pytest.raises(ValueError, match=message):
        read_ground_truth(str(tmp_path / "own.parquet"))


def test_a_file_that_is_missing_or_damaged_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent.parquet does not exist"):
        read_ground_truth(str(tmp_path / "absent.parquet"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cut.parquet is no ground truth: .* damaged"):
        read_ground_truth(str(tmp_path / "cut.parquet"))
