"""Lists of images: every row that cannot be used is refused by its place."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from apdist.data.preparing.kinds import COMPOSED
from apdist.data.preparing.tables.csv_tables import read_csv
from apdist.data.preparing.tables.tables import (
    Columns,
    Row,
    Table,
    table_items,
    table_names,
)
from tests.pictures import encoded, picture, write_folder


def csv_rows(root: Path, text: str, **columns: str) -> list[Row]:
    (root / "t.csv").write_text(text)
    return read_csv(Table(root / "t.csv", root), Columns(**columns))


IMAGES = [encoded(picture(label, 0)) for label in range(4)]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    rows = csv_rows(tmp_path, "f\tc\na/0.png\t7\n", path="f", label="c")
    assert (rows[0].label, rows[0].split) == ("7", "")
    assert table_items(rows, {"a/0.png": "train"})[0].label == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path' for the path; it has nothing: name one with --path-column"),
        ("path,x\n", "no column 'label' for the label; it has path, x: .* --label-column"),
        ("path,label\na/0.png,1\na/9.png,1\n", r"line 3: .*9.png does not exist; .* --root"),
        ("path,label\na/0.png,1\n,1\n", "line 3: the path is empty"),
        ("path,label\na/0.png,\n", "line 2: the label is empty"),
        ("path,label\na/0.png\n", "line 2: the label is empty"),
        ("path,label\na/0.png,1\na/1.png,1\na/./0.png,2\n", "line 4: 'a/./0.png' is in line 2 alr"),
        ("path,label,split\na/0.png,1,\n", "line 2: the split is empty"),
        ("path,label,split\na/0.png,1,my split\n", "line 2: split 'my split' is no plain word"),
        ('path,label\na/0.png,x\n"a/1.png,1\n', "row that begins in line 3 .* a quote inside it"),
        ('"path,label\n', "row that begins in line 1 breaks the rules of quotes"),
        ("path,label\na/0.png,1\na/1.png," + "x" * 140_000, "row that begins in line 3"),
        ("path,label\nhttps://u:geheim@h/x?s=geheim,a\n", r"line 2: 'https://...@h/x\?...' is no "),
        ("path,label\na/0.png,Rose, red\n", "line 2 has more cells than the header"),
        ("path,label,label\na/0.png,a,b\n", "has two columns 'label'"),
        ("path,label\ns3://b/0.png,a\n", "line 2: 's3://b/0.png' is no local file"),
        ("path,label\na,a\n", "line 2: .*a is a folder"),
        ("path,label\n\n\na/0.png,\n", "line 4: the label is empty"),
        ('path,label\na/0.png,"a\nb"\na/1.png,\n', "line 4: the label is empty"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write_folder(tmp_path, {"a": 2})
    with pytest.raises(ValueError, match=rf"t.csv.*{message}"):
        csv_rows(tmp_path, text)


def test_one_source_in_two_tables_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    rows = csv_rows(tmp_path, "path,label\na/0.png,1\n")
    again = [Row("other row 5", *([getattr(rows[0], n) for n in Row.__match_args__[1:]]))]
    with pytest.raises(ValueError, match="other row 5: 'a/0.png' is in .*t.csv line 2 already"):
        table_items(rows + again, {})


def test_addresses_of_files_are_paths(tmp_path: Path) -> None:
    write_folder(tmp_path, {"b c#é": 2})
    first, second = (tmp_path / "b c#é" / name for name in ("0.png", "1.png"))
    text = f"path,label\n{first.as_uri()},x\nfile://localhost{quote(str(second))},y\n"
    stored = [row.stored.path for row in csv_rows(tmp_path, text)]
    assert stored == [str(first), str(second)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file:///x/a.jpg", "line 2: /x/a.jpg does not exist; check"),
        ("file://host/a.jpg", "line 2: .* names a machine, 'host'; write file:///"),
        ("gs://b/a.jpg", "line 2: gs:// is not known"),
        ("a\\0.png", r"line 2: .* does not exist, but it does with / in place of .; write it so"),
        ("e\u0301.png", "line 2: .* does not exist, but it does in the Unicode normal form NFC"),
        ("pipe", "line 2: .*pipe is no regular file"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_to_change(
    tmp_path: Path, path: str, message: str
) -> None:
    write_folder(tmp_path, {"a": 1})
    (tmp_path / "\u00e9.png").write_bytes(IMAGES[0])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=message):
        csv_rows(tmp_path, f"path,label\n{path},x\n")


def test_one_label_in_two_unicode_normal_forms_is_one_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "t.csv").write_text("path,label\na/0.png,e\u0301\na/1.png,\u00e9\n")
    table = Table(tmp_path / "t.csv", tmp_path)
    assert [row.label for row in read_csv(table, Columns())] == ["\u00e9"] * 2
    assert table.tally.kinds == {COMPOSED: (1, f"{tmp_path}/t.csv line 2")}


def test_tables_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    def names(*paths: str) -> list[str]:
        return table_names([tmp_path / path for path in paths])

    assert names("x/a.parquet", "y/b.parquet") == ["a", "b"]
    assert names("x/a.parquet", "y/a.parquet", "y/b.parquet") == ["x/a", "y/a", "y/b"]
    assert names("a.parquet", "x/a.parquet") == ["a", "x/a"]
    assert names("a.parquet", "a.pq") == ["a.parquet", "a.pq"]
    assert names("x/a.parquet") == ["a"]
