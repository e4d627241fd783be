"""Lists of images: every row that cannot be used is refused by its place."""

import json
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apdist.data.preparing.folder import encode_file
from apdist.data.preparing.kinds import COMPOSED, SPACES
from apdist.data.preparing.tables.csv_tables import read_csv
from apdist.data.preparing.tables.parquet_tables import read_parquet
from apdist.data.preparing.tables.tables import (
    Columns,
    Row,
    Table,
    table_classes,
    table_items,
    table_names,
)
from tests.pictures import encoded, picture, write_folder


def csv_rows(root: Path, text: str, **columns: str) -> list[Row]:
    (root / "t.csv").write_text(text)
    return read_csv(Table(root / "t.csv", root), Columns(**columns))


def parquet_rows(root: Path, table: pa.Table, **columns: str) -> list[Row]:
    """The rows, with the images that were spooled read again."""
    pq.write_table(table, root / "t.parquet", row_group_size=2)
    with tempfile.NamedTemporaryFile(dir=root) as spool:
        rows = read_parquet(Table(root / "t.parquet", root), Columns(**columns), spool.file)
        spool.flush()
        for row in rows:
            assert not encode_file(row.stored).refused
        if rows and rows[0].stored.path == spool.name:
            assert [encode_file(row.stored).data for row in rows] == IMAGES[: len(rows)]
    return rows


IMAGES = [encoded(picture(label, 0)) for label in range(4)]


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
        ("path,label\nhttps://u:geheim@h/x?s=geheim,a\n", r"line 2: 'https://h/x\?...' is no loc"),
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


def test_a_file_that_is_no_text_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    for name, fault in (("t.csv", "is not a text file in UTF-8"), ("nothing.csv", "cannot be rea")):
        with pytest.raises(ValueError, match=f"{name} {fault}"):
            read_csv(Table(tmp_path / name, tmp_path), Columns())


def test_images_in_a_parquet_file_are_found_by_their_place(tmp_path: Path) -> None:
    rows = parquet_rows(tmp_path, pa.table({"image": IMAGES, "label": ["b", "a", "b", "c"]}))
    assert [r.source for r in rows] == [f"t/{n}" for n in (1, 2, 3, 4)]
    assert [r.label for r in rows] == ["b", "a", "b", "c"]


def test_structs_and_class_names_of_hugging_face_are_understood(tmp_path: Path) -> None:
    images = [{"bytes": data, "path": "x.png"} for data in IMAGES[:2]]
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": images, "label": [1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    rows = parquet_rows(tmp_path, table)
    assert [(r.source, r.label, r.name) for r in rows] == [
        ("t/1/x.png", "1", "dog"),
        ("t/2/x.png", "0", "cat"),
    ]
    more = pa.table({"image": images, "label": [1, 2]})
    with pytest.raises(ValueError, match="row 2: label 2 has no name among the 2"):
        parquet_rows(tmp_path, more.replace_schema_metadata({"huggingface": json.dumps(features)}))


def test_an_image_column_that_is_named_must_be_there(tmp_path: Path) -> None:
    table = pa.table({"path": ["a/0.png"], "label": ["a"]})
    with pytest.raises(ValueError, match="no column 'jpg' for the image"):
        parquet_rows(tmp_path, table, image="jpg")
    write_folder(tmp_path, {"a": 1})
    paths = pa.table({"image": [{"bytes": None, "path": "a/0.png"}], "label": [1]})
    pq.write_table(paths.cast(pa.schema([("image", pa.struct([("bytes", pa.binary()),
        ("path", pa.string())])), ("label", pa.int64())])), tmp_path / "p.parquet")  # fmt: skip
    with tempfile.NamedTemporaryFile() as spool:
        found = read_parquet(Table(tmp_path / "p.parquet", tmp_path), Columns(), spool.file)
    assert found[0].stored.path == str(tmp_path / "a" / "0.png")


def test_a_parquet_file_may_list_paths(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    table = pa.table({"path": ["a/0.png", "a/1.png"], "label": ["x", "x"], "split": ["t", "u"]})
    rows = parquet_rows(tmp_path, table)
    assert [(r.source, r.split) for r in rows] == [("a/0.png", "t"), ("a/1.png", "u")]
    numbers = parquet_rows(tmp_path, table.set_column(2, "split", pa.array([0, 1])))
    assert [row.split for row in numbers] == ["0", "1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"label": ["a"]}), "no column 'path' for the path or image; .* --image-column"),
        (pa.table({"image": IMAGES[:1]}), "no column 'label'"),
        (pa.table({"image": IMAGES[:2], "label": ["a", None]}), "row 2: the label is empty"),
        (pa.table({"image": IMAGES[:2], "label": ["a", ""]}), "row 2: the label is empty"),
        (pa.table({"image": IMAGES[:2], "label": ["a", " "]}), "row 2: the label is empty"),
        (pa.table({"path": ["a/0.png"], "label": ["a"], "split": ["?"]}), "split '\\?' is no"),
        (
            pa.table([["a/0.png"], ["a"], ["b"]], names=["path", "label", "label"]),
            "has two columns 'label'; keep one",
        ),
        (pa.table({"image": IMAGES[:1], "label": [0.5]}), "row 1: label 0.5 is neither"),
        (pa.table({"image": IMAGES[:1], "label": [True]}), "row 1: label True is neither"),
        (pa.table({"image": pa.array([None], pa.binary()), "label": ["a"]}), "row 1: the path is"),
        (pa.table({"image": IMAGES[:1], "label": ["a"], "split": ["a b"]}), "no plain word"),
        (pa.table({"path": ["no.png"], "label": ["a"]}), "row 1: .*no.png does not exist"),
        (pa.table({"image": [5], "label": ["a"]}), "row 1: the image is of type int, not"),
    ],
)
def test_a_parquet_row_that_cannot_be_used_is_refused(
    tmp_path: Path, table: pa.Table, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"t.parquet.*{message}"):
        parquet_rows(tmp_path, table)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no")
    with tempfile.NamedTemporaryFile() as spool, pytest.raises(ValueError, match="cannot be read"):
        read_parquet(Table(tmp_path / "t.parquet", tmp_path), Columns(), spool.file)


def test_one_source_in_two_tables_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    rows = csv_rows(tmp_path, "path,label\na/0.png,1\n")
    again = [Row("other row 5", *([getattr(rows[0], n) for n in Row.__match_args__[1:]]))]
    with pytest.raises(ValueError, match="other row 5: 'a/0.png' is in .*t.csv line 2 already"):
        table_items(rows + again, {})


WRITTEN = {
    "columns without a name": "path,label,,\na/0.png,x,,\na/1.png,y,,\n",
    "cells beyond the header": "path,label\na/0.png,x,,\na/1.png,y,,\n",
    "empty rows at the end": "path,label\na/0.png,x\na/1.png,y\n,\n,\n",
    "an empty row between": "path,label\na/0.png,x\n,\na/1.png,y\n",
    "empty lines before the header": "\n,,\npath,label\na/0.png,x\na/1.png,y\n",
    "Excel's separator": "sep=;\npath;label\na/0.png;x\na/1.png;y\n",
    "old ends of lines": "path,label\ra/0.png,x\ra/1.png,y\r",
    "Windows' ends of lines": "path,label\r\na/0.png,x\r\na/1.png,y\r\n",
    "an index of pandas": ",path,label\n0,a/0.png,x\n1,a/1.png,y\n",
    "spaces": " path , label\n a/0.png , x\n a/1.png , y\n",
    "everything in quotes": '"path","label"\n"a/0.png","x"\n"a/1.png","y"\n',
    "a note of two lines": 'path,label,note\na/0.png,x,"two\nlines"\na/1.png,y,\n',
    "two other columns of one name": "path,label,note,note\na/0.png,x,1,2\na/1.png,y,3,4\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("case", WRITTEN)
def test_tables_are_read_as_spreadsheets_write_them(
    tmp_path: Path, case: str, encoding: str
) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "t.csv").write_bytes(WRITTEN[case].encode(encoding))
    rows = read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())
    assert [(row.source, row.label) for row in rows] == [("a/0.png", "x"), ("a/1.png", "y")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path,label\r\na/0.png,x\r\na/9.png,x\r\n", 3),
        ("path,label\ra/0.png,x\ra/9.png,x\r", 3),
        ("sep=,\npath,label\na/9.png,x\n", 3),
        ("\n\npath,label\n\na/9.png,x\n", 5),
        ('path,label\na/0.png,"a\nb"\na/9.png,x\n', 4),
    ],
)
def test_the_line_of_a_message_is_that_of_an_editor(tmp_path: Path, text: str, line: int) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "t.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=f"t.csv line {line}: .*9.png does not exist"):
        read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())


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


def test_text_in_another_encoding_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,label\na,b\ncafé,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"in UTF-8 \(see line 3\); save it as UTF-8"):
        read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())


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
