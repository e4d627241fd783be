"""Images in Parquet files, and lists of their paths."""

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apdist.data.preparing.folder import encode_file
from apdist.data.preparing.tables.parquet_tables import read_parquet
from apdist.data.preparing.tables.tables import (
    Columns,
    Row,
    Table,
)
from tests.pictures import encoded, picture, write_folder


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
        (pa.table({"image": pa.array([None], pa.binary()), "label": ["a"]}), "row 1: the image is"),
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


def test_an_empty_image_is_called_so(tmp_path: Path) -> None:
    for image in ([IMAGES[0], None], [{"bytes": IMAGES[0], "path": ""}, None]):
        with pytest.raises(ValueError, match=r"t.parquet row 2: the image is empty$"):
            parquet_rows(tmp_path, pa.table({"image": image, "label": ["a", "b"]}))
