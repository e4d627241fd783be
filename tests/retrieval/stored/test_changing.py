"""Images added, replaced and removed by key: as an index that was built of what is left."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from apdist.retrieval.filters import parse_filter
from apdist.retrieval.index import build_index, load_index, save_index
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.stored.changing import add_to_index, remove_from_index, update_index
from apdist.retrieval.stored.writing import Part
from tests.retrieval.indexes import ALL_KINDS, clustered, entries, needs_faiss

VECTORS = clustered(1400)
TABLE = entries(1400)


def part(start: int, stop: int) -> Part:
    return VECTORS[start:stop], TABLE.slice(start, stop - start)


def saved(folder: Path, kind: str = "exact", count: int = 1000) -> Path:
    save_index(build_index(*part(0, count), kind=kind, model_id="m"), folder / "index")
    return folder / "index"


def same(found: SearchIndex, rows: list[int]) -> None:
    """It holds the images of these rows, in this order, and finds what is nearest among them."""
    assert found.entries.equals(TABLE.take(rows))
    torch.testing.assert_close(found.descriptors, VECTORS[rows])
    exact = build_index(VECTORS[rows], TABLE.take(rows), kind="exact", model_id="m")
    (scores, places), (wanted, expected) = (i.search(VECTORS[:50], 5) for i in (found, exact))
    agreement = (places == expected).float().mean()
    is_exact = found.settings["kind"] in ("exact", "flat")
    assert agreement == 1.0 if is_exact else agreement > 0.9
    torch.testing.assert_close(scores[:, 0], wanted[:, 0])
    assert found.settings["count"] == len(rows)
    assert found.settings["recall_at_10"] > 0.9


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_follows_what_is_added_replaced_and_removed(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path, kind)
    added = add_to_index(folder, [part(1000, 1100), part(1100, 1200)], model_id="m")
    assert (added.num_added, added.num_replaced, added.num_removed) == (200, 0, 0)
    same(load_index(folder, model_id="m"), list(range(1200)))

    changed = update_index(folder, [part(1150, 1300), part(3, 5)], model_id="m")
    assert (changed.num_added, changed.num_replaced) == (100, 52)
    new = [*range(1150, 1300), 3, 4]
    rows = [*new, *(row for row in range(1150) if row not in (3, 4))]
    same(load_index(folder, model_id="m"), rows)

    keys = [str(key) for key in TABLE["key"].take([1160, 7, 7])]
    gone = remove_from_index(folder, ["no such", *keys, "no such"], where=parse_filter(["label<3"]))
    assert (gone.num_removed, gone.missing) == (5, ("no such",))
    assert gone.settings == load_index(folder, model_id="m").settings
    same(load_index(folder, model_id="m"), [r for r in rows if r not in (1160, 7, 0, 1, 2)])
    assert len(list(folder.iterdir())) == 2


@needs_faiss
def test_faiss_learns_anew_where_an_index_has_grown_manifold(tmp_path: Path) -> None:
    folder = saved(tmp_path, "ivf", count=400)
    add_to_index(folder, [part(400, 700)], model_id="m")
    assert load_index(folder, model_id="m").settings["trained_on"] == 400
    lists = load_index(folder, model_id="m").settings["num_lists"]
    add_to_index(folder, [part(700, 900)], model_id="m")
    found = load_index(folder, model_id="m").settings
    assert found["trained_on"] == 900
    assert found["num_lists"] > lists


def test_columns_that_one_side_lacks_are_empty_and_kinds_are_those_of_the_index(
    tmp_path: Path,
) -> None:
    table = TABLE.slice(0, 10).append_column("name", pa.array(["x", "y"] * 5).dictionary_encode())
    save_index(build_index(VECTORS[:10], table, model_id="m"), tmp_path / "i")
    more = pa.table({"name": ["z", None], "price": [1.5, 2.5], "key": ["a", "b"]})
    add_to_index(tmp_path / "i", [(VECTORS[10:12], more)], model_id="m")
    found = load_index(tmp_path / "i", model_id="m").entries
    assert found.schema.names == ["key", "label", "name", "price"]
    assert found["name"].type == table["name"].type
    assert found["name"].to_pylist() == ["x", "y"] * 5 + ["z", None]
    assert found["label"].to_pylist() == [*range(10), None, None]
    assert found["price"].to_pylist() == [None] * 10 + [1.5, 2.5]
    worse = pa.table({"key": ["c"], "label": ["dog"]})
    with pytest.raises(ValueError, match="column label holds string, that of those before int64"):
        add_to_index(tmp_path / "i", [(VECTORS[12:13], worse)], model_id="m")


def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path, count=40)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    narrow = (clustered(40, 8)[:1], entries(1))
    nameless = TABLE.slice(50, 1).drop_columns(["key"])
    for parts, model, message in (
        ([part(39, 41)], "m", "1 key is in the index already or come.*'bild 39 ü'; replace"),
        ([part(50, 60), part(50, 51)], "m", "1 key is in the index already or come twice"),
        ([part(50, 60)], "n", "is of model m, the images to go into it.*with model n"),
        ([narrow], "m", "expected descriptors of 24 numbers as those before, got 8"),
        ([(VECTORS[:1], nameless)], "m", "an entry has no key; give each image a key"),
        ([], "m", "nothing is to be added"),
    ):
        with pytest.raises(ValueError, match=message):
            add_to_index(folder, parts, model_id=model)
    with pytest.raises(ValueError, match="a key comes again, the first 'bild 50 ü'"):
        update_index(folder, [part(50, 60), part(50, 51)], model_id="m")
    with pytest.raises(ValueError, match="would remove all 40 images"):
        remove_from_index(folder, where=parse_filter(["label>=0"]))
    with pytest.raises(ValueError, match="no column 'lable'; did you mean 'label'"):
        remove_from_index(folder, where=parse_filter(["lable=3"]))
    assert remove_from_index(folder, ["x", "y"]).missing == ("x", "y")
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*")) == before
    for change in (lambda f: add_to_index(f, [part(0, 1)], model_id="m"), remove_from_index):
        with pytest.raises(ValueError, match=r"index\.json does not exist"):
            change(tmp_path / "absent")
        assert not (tmp_path / "absent").exists()


def test_an_index_of_images_without_keys_is_not_changed(tmp_path: Path) -> None:
    save_index(build_index(VECTORS[:9], pa.table({"n": range(9)}), model_id="m"), tmp_path / "i")
    with pytest.raises(ValueError, match="has no column 'key', by which images are added"):
        remove_from_index(tmp_path / "i", ["3"])
