"""A CSV file that lists paths."""

from pathlib import Path

import pytest

from apdist.data.preparing.kinds import SPACES
from apdist.data.preparing.tables.csv_tables import read_csv
from apdist.data.preparing.tables.tables import (
    Columns,
    Table,
    table_classes,
    table_items,
)
from tests.data.preparing.tables.test_tables import csv_rows
from tests.pictures import write_folder


def test_a_csv_lists_paths_labels_and_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ä b": 2})
    text = "\ufeffsplit;label;path\ntrain;Ä;ä b/0.png\ntest;b;ä b/1.png\n"
    rows = csv_rows(tmp_path, text)
    assert [(r.source, r.label, r.split) for r in rows] == [
        ("ä b/0.png", "Ä", "train"),
        ("ä b/1.png", "b", "test"),
    ]
    items = table_items(rows, {"ä b/1.png": "x"})
    assert [(i.label, i.label_name, i.split) for i in items] == [(0, "b", "x")]
    assert table_classes(rows) == {"b": ["ä b/1.png"], "Ä": ["ä b/0.png"]}


def test_a_file_that_is_no_text_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    for name, fault in (("t.csv", "is not a text file in UTF-8"), ("nothing.csv", "cannot be rea")):
        with pytest.raises(ValueError, match=f"{name} {fault}"):
            read_csv(Table(tmp_path / name, tmp_path), Columns())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\x03\x04path,label", "a spreadsheet's own file or a zip"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old Excel file"),
        (b"PAR1\x15", "a Parquet file"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
    ],
)
def test_a_file_that_is_no_csv_is_refused_by_its_kind(
    tmp_path: Path, data: bytes, kind: str
) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ValueError, match=f"t.csv is {kind}, not a text .*; save it as CSV in UTF"):
        read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())


def test_spaces_around_a_label_are_taken_off_and_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 3})
    (tmp_path / "t.csv").write_text("path,label\na/0.png,x\na/1.png,x \n a/2.png , x\n")
    table = Table(tmp_path / "t.csv", tmp_path)
    assert [row.label for row in read_csv(table, Columns())] == ["x"] * 3
    assert table.tally.kinds == {SPACES: (2, f"{tmp_path}/t.csv line 3")}
