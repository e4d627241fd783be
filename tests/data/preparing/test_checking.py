"""Shards against their index: what was changed on purpose is found, at its place."""

from pathlib import Path

import numpy as np
import pytest

from apdist.data.catalogue.catalogue import Index, read_index
from apdist.data.preparing.checking import Difference, check_shards, rows_by_shard
from tests.pictures import write_small_set


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_small_set(tmp_path)
    return tmp_path


def check(root: Path, *, deep: bool, threads: int = 2) -> list[Difference]:
    return check_shards(read_index(str(root)), deep=deep, num_threads=threads)


@pytest.mark.parametrize("deep", [False, True])
def test_untouched_shards_are_as_indexed(root: Path, deep: bool) -> None:
    seen: list[int] = []
    index = read_index(str(root))
    assert check_shards(index, deep=deep, num_threads=2, progress=seen.append) == []
    assert seen[-1] == len(index)


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_shard_is_found(root: Path, deep: bool) -> None:
    (root / "test-000000.tar").unlink()
    (found,) = check(root, deep=deep)
    assert (found.shard, found.key, found.offset) == ("test-000000.tar", "", -1)
    assert found.what.startswith("missing, with ")


def test_a_flipped_bit_is_found_in_each_image_by_its_key_and_place(root: Path) -> None:
    index = read_index(str(root))
    for row in np.random.default_rng(0).integers(0, len(index), 8).tolist():
        cells = index.table.slice(row, 1).to_pylist()[0]
        path = root / cells["shard"]
        whole = path.read_bytes()
        at = cells["offset"] + row % cells["size"]
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert check(root, deep=False) == []
        (found,) = check(root, deep=True)
        assert (found.shard, found.key, found.offset) == (
            cells["shard"],
            cells["key"],
            cells["offset"],
        )
        assert "checksum differs" in found.what
        path.write_bytes(whole)


def test_a_shard_that_was_cut_has_another_size_and_lacks_its_last_images(root: Path) -> None:
    index = read_index(str(root))
    last = index.select("test").table.slice(23, 1).to_pylist()[0]
    path = root / last["shard"]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: last["offset"] + 5])
    (shallow,) = check(root, deep=False)
    assert shallow.what == f"size changed from {size} to {last['offset'] + 5} bytes"
    both = check(root, deep=True)
    assert both[0] == shallow
    assert both[1].key == last["key"]
    assert both[1].what == f"cut off: 5 of {last['size']} bytes"


def test_images_behind_a_cut_are_counted_not_listed(root: Path) -> None:
    index = read_index(str(root))
    shard, rows = next(iter(rows_by_shard(index).items()))
    second = index.table.slice(int(rows[1]), 1).to_pylist()[0]
    (root / shard).write_bytes((root / shard).read_bytes()[: second["offset"] + 5])
    done: list[int] = []
    found = check_shards(index, deep=True, num_threads=1, progress=done.append)
    assert [d.key for d in found] == ["", second["key"]]
    what = f"cut off: 5 of {second['size']} bytes, and {len(rows) - 2} more behind it"
    assert found[1].what == what
    assert done[-1] == len(index)


def test_a_replaced_object_is_told_by_its_etag(root: Path) -> None:
    index = read_index(str(root))
    name = next(iter(index.shards))
    size = index.shards[name][0]
    old = Index(index.root, index.table, {**index.shards, name: (size, "before")})
    (found,) = check_shards(old, deep=False, num_threads=1)
    assert found == Difference(name, "", -1, "replaced: its ETag was before and is ")


def test_every_row_belongs_to_one_shard_in_the_order_of_its_bytes(root: Path) -> None:
    index = read_index(str(root))
    rows = rows_by_shard(index)
    assert sorted(row for part in rows.values() for row in part.tolist()) == list(range(len(index)))
    offsets = index.table["offset"].to_numpy()
    for name, part in rows.items():
        assert (np.diff(offsets[part]) > 0).all()
        assert {index.table["shard"][row].as_py() for row in part.tolist()} == {name}
