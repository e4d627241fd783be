"""What goes into an index: pictures of a folder, tables of descriptors; and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from apdist.data.storage.registry import STORES
from tests.memory_store import MemoryStore
from tests.pictures import encoded, picture
from tests.pipelines.index.conftest import Place


def test_a_folder_of_pictures_needs_no_shards(place: Place) -> None:
    out = place("--run", place.run.uri, "--images", str(place.root / "pictures"), "--out", "i")
    assert "no picture: .txt" in out
    assert "hidden" in out
    found = place.load("i").entries.sort_by("key")
    assert found["key"].to_pylist() == ["top.png", "x/y/deep.png", "ä b/2.jpg", "ä b/<i> '1'.png"]
    assert found["label_name"].to_pylist() == ["", "y", "ä b", "ä b"]
    for row in found.to_pylist():
        assert Path(row["shard"]).read_bytes()[row["offset"] :].__len__() == row["size"]


def test_pictures_are_described_as_those_of_shards(place: Place) -> None:
    folder = place.tmp_path / "same"
    held = place.load(place.root / "built")
    for row in held.entries.to_pylist():
        data = Path(row["shard"]).read_bytes()[row["offset"] :][: row["size"]]
        (folder / row["source"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / row["source"]).write_bytes(data)
    place("--run", place.run.uri, "--images", "same", "--out", "i")
    found = place.load("i")
    places = [found.entries["key"].to_pylist().index(s) for s in held.entries["source"].to_pylist()]
    torch.testing.assert_close(found.descriptors[places], held.descriptors, atol=1e-5, rtol=0)


def test_pictures_in_object_storage_are_found_below_a_prefix(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setitem(STORES, "mem", store)
    store.files.store.clear()
    for name in ("b/a.png", "b/deep/er/c.PNG", "other/d.png", "b/notes.txt", "b/.x/e.png"):
        store.write(f"mem://bucket/{name}", encoded(picture(1, len(name))))
    place("--run", place.run.uri, "--images", "mem://bucket/b", "--out", "i")
    assert place.keys("i") == ["a.png", "deep/er/c.PNG"]
    assert place.load("i").entries["shard"][1].as_py() == "mem://bucket/b/deep/er/c.PNG"


def test_damaged_pictures_are_left_out_and_named_or_an_error(place: Place) -> None:
    shutil.copytree(place.root / "pictures", "p")
    Path("p/bad [1].png").write_bytes(encoded(picture(1, 1))[:99])
    Path("p/link.png").symlink_to("nowhere")
    words = ["--run", place.run.uri, "--images", "p", "--out", "i"]
    assert "bad [1].png" in place.refused(*words, "--on-corrupt", "error")
    assert not Path("i").exists()
    out = place(*words)
    assert "left out 2 files without a readable image: bad [1].png" in out
    assert "link.png cannot be read (no such file or directory)" in out
    assert len(place.load("i")) == 4
    for path in Path("p").rglob("*.*g"):
        path.unlink()
    assert "p holds no picture" in place.refused(*words)


def test_descriptors_in_tables_are_taken_as_they_are(place: Place) -> None:
    tables = str(place.root / "tables")
    said = place("--table", tables, "--out", "all")
    assert "apdist search PICTURE.jpg --run RUN --index all" in said  # nothing there tells the run
    assert len(place.load("all")) == 18
    for folder in ("test", "file"):
        source = tables if folder == "test" else str(next(Path(tables).glob("test-*.parquet")))
        place("--run", place.run.uri, "--table", source, "--split", "test", "--out", folder)
    found, held = place.load("test"), place.load(place.root / "built")
    columns = ["key", "source", "label", "label_name", "split", "offset", "size", "shard"]
    for name in columns:
        assert found.entries[name].to_pylist() == held.entries[name].to_pylist()
    torch.testing.assert_close(found.descriptors, held.descriptors, atol=1e-5, rtol=0)
    assert {"model", "descriptor"}.isdisjoint(found.entries.schema.names)
    assert found.settings["model_id"] == held.settings["model_id"]


def test_tables_that_do_not_fit_are_refused(place: Place) -> None:
    whole = pa.concat_tables(map(pq.read_table, sorted((place.root / "tables").glob("*.parquet"))))
    Path("t").mkdir()

    def refused(table: pa.Table, *words: str) -> str:
        pq.write_table(table, "t/a.parquet")
        return place.refused("--run", place.run.uri, "--table", "t", "--out", "i", *words)

    other = whole.set_column(5, "model", pa.array(["other"] * len(whole)))
    assert "holds descriptors of model other, the run" in refused(other)
    assert "split 'tset' is not in" in refused(whole, "--split", "tset")
    assert "leave them out" in refused(whole, "--size", "20")
    assert "has no column 'key'" in refused(whole.drop_columns(["key"]))
    assert "has no column 'descriptor'" in refused(whole.drop_columns(["descriptor"]))
    assert "keys come again, the first" in refused(pa.concat_tables([whole, whole]))
    narrow = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 0.0] * len(whole), pa.float32()), 2)
    at = whole.schema.names.index("descriptor")
    keys = pa.array([f"more {i}" for i in range(len(whole))])
    narrow_more = whole.set_column(at, "descriptor", narrow).set_column(0, "key", keys)
    pq.write_table(narrow_more, "t/b.parquet")
    assert "expected descriptors of" in refused(whole)
    Path("t/b.parquet").write_bytes(b"PAR1")
    assert "b.parquet is no Parquet file or is damaged" in refused(whole)
    assert not Path("i").exists()
