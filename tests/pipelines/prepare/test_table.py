"""`apdist prepare csv|parquet`."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.reader import ImageReader
from tests.pictures import encoded, picture, write_folder
from tests.pipelines.test_cli import refused, run


def test_a_csv_becomes_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "images", {"a": 3, "b": 3})
    lines = [f"{c}/{n}.png,{c},{'train' if n else 'test'}" for c in "ab" for n in range(3)]
    (tmp_path / "list.csv").write_text("path,label,split\n" + "\n".join(lines) + "\n")
    out = str(tmp_path / "shards")
    command = ["prepare", "csv", str(tmp_path / "list.csv"), "--out", out]
    assert "list.csv line 2" in refused(command, capsys)
    code, said, _ = run([*command, "--root", str(tmp_path / "images"), "--max-side", "12"], capsys)
    assert code == 0
    assert "6 images in 2 shards" in said
    catalogue = read_catalogue(out)
    assert catalogue.splits() == {"train": 4, "test": 2}
    assert set(catalogue.table["width"].to_pylist()) == {12}


def test_several_parquet_files_become_shards_split_by_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {label: [encoded(picture(label, n)) for n in range(4)] for label in range(4)}
    for name, labels in (("x", (0, 1)), ("y", (2, 3))):
        rows = [(data, f"class {label}") for label in labels for data in images[label]]
        table = pa.table({"jpg": [r[0] for r in rows], "what": [r[1] for r in rows]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    command = ["prepare", "parquet", str(tmp_path / "x.parquet"), str(tmp_path / "y.parquet")]
    options = ["--image-column", "jpg", "--label-column", "what", "--split-by-class", "0.5"]
    out = tmp_path / "shards"
    code, said, err = run([*command, *options, "--out", str(out)], capsys)
    assert code == 0, err
    assert "16 images in 2 shards" in said
    catalogue = read_catalogue(str(out))
    assert catalogue.splits() == {"train": 8, "test": 8}
    reader = ImageReader(catalogue)
    for row, cells in enumerate(catalogue.table.select(["label", "label_name"]).to_pylist()):
        assert cells["label_name"] == f"class {cells['label']}"
        assert reader.read_one(row) in images[cells["label"]]


def test_parquet_tables_of_one_name_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab"):
        Path(name).mkdir()
        images = [encoded(picture(label, number)) for label in range(2)]
        pq.write_table(pa.table({"image": images, "label": ["x", "y"]}), f"{name}/part-0.parquet")
    tables = ["a/part-0.parquet", "b/part-0.parquet"]
    command = ["prepare", "parquet", *tables, "--out", "out", "--split-by-class", "0.5"]
    code, _, err = run(command, capsys)
    assert code == 0, err
    found = read_catalogue("out").table["source"].to_pylist()
    assert sorted(found) == [f"{name}/part-0/{row}" for name in "ab" for row in (1, 2)]


def test_a_split_column_that_is_not_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path, {"a": 2, "b": 2})
    paths = [f"{c}/{n}.png" for c in "ab" for n in range(2)]
    lines = "".join(f"{path},{path[0]},train\n" for path in paths)
    Path("list.csv").write_text(f"path,label,split\n{lines}")
    Path("plain.csv").write_text("path,label\n0.png,c\n")
    Path("0.png").write_bytes(encoded(picture(3, 0)))
    Path("splits.csv").write_text("path,split\n" + "".join(f"{path},test\n" for path in paths))
    command = ["prepare", "csv", "list.csv", "--out", "x", "--split-file", "splits.csv"]
    code, _, warned = run(command, capsys)
    assert code == 0
    assert "the column 'split', of 4 of 4 rows, is not used: --split-file splits" in warned
    assert read_catalogue("x").splits() == {"test": 4}
    code, _, warned = run(["prepare", "csv", "list.csv", "plain.csv", "--out", "y"], capsys)
    assert "of 4 of 5 rows, is not used: --split-by-class" in warned


def test_a_root_of_images_that_are_in_the_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = [encoded(picture(label, 0)) for label in range(4)]
    labels = ["a", "a", "b", "b"]
    pq.write_table(pa.table({"image": images, "label": labels}), "in.parquet")
    command = ["prepare", "parquet", "in.parquet", "--out", "x", "--split-by-class", "0.5"]
    assert "--root /x is where paths start" in refused([*command, "--root", "/x"], capsys)
    Path("0.png").write_bytes(images[0])
    mixed = {"image": [None, *images[1:]], "path": ["0.png", "", "", ""], "label": labels}
    pq.write_table(pa.table(mixed), "in.parquet")
    root = ["--root", str(tmp_path)]
    assert run([*command, *root], capsys)[0] == 0
