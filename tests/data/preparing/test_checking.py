"""Shards against their catalogue: what was changed on purpose is found, at its place."""

from pathlib import Path

import numpy as np
import pytest

from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.preparing.checking import Difference, check_shards, rows_by_shard
from tests.pictures import write_small_set


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_small_set(tmp_path)
    return tmp_path


def check(root: Path, *, deep: bool, threads: int = 2) -> list[Difference]:
    return check_shards(read_catalogue(str(root)), deep=deep, num_threads=threads)


@pytest.mark.parametrize("deep", [False, True])
def test_untouched_shards_are_as_noted(root: Path, deep: bool) -> None:
    seen: list[int] = []
    catalogue = read_catalogue(str(root))
    assert check_shards(catalogue, deep=deep, num_threads=2, progress=seen.append) == []
    assert seen[-1] == len(catalogue)


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_shard_is_found(root: Path, deep: bool) -> None:
    (root / "test-000000.tar").unlink()
    (found,) = check(root, deep=deep)
    assert (found.shard, found.key, found.offset) == ("test-000000.tar", "", -1)
    assert found.what.startswith("missing, with ")


def test_a_flipped_bit_is_found_in_each_image_by_its_key_and_place(root: Path) -> None:
    catalogue = read_catalogue(str(root))
    for row in np.random.default_rng(0).integers(0, len(catalogue), 8).tolist():
        cells = catalogue.table.slice(row, 1).to_pylist()[0]
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
    catalogue = read_catalogue(str(root))
    last = catalogue.select("test").table.slice(23, 1).to_pylist()[0]
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
    catalogue = read_catalogue(str(root))
    shard, rows = next(iter(rows_by_shard(catalogue).items()))
    second = catalogue.table.slice(int(rows[1]), 1).to_pylist()[0]
    (root / shard).write_bytes((root / shard).read_bytes()[: second["offset"] + 5])
    done: list[int] = []
    found = check_shards(catalogue, deep=True, num_threads=1, progress=done.append)
    assert [d.key for d in found] == ["", second["key"]]
    what = f"cut off: 5 of {second['size']} bytes, and {len(rows) - 2} more behind it"
    assert found[1].what == what
    assert done[-1] == len(catalogue)


def test_a_replaced_object_is_told_by_its_etag(root: Path) -> None:
    catalogue = read_catalogue(str(root))
    name = next(iter(catalogue.shards))
    size = catalogue.shards[name][0]
    old = Catalogue(catalogue.root, catalogue.table, {**catalogue.shards, name: (size, "before")})
    (found,) = check_shards(old, deep=False, num_threads=1)
    assert found == Difference(name, "", -1, "replaced: its ETag was before and is ")


def test_every_row_belongs_to_one_shard_in_the_order_of_its_bytes(root: Path) -> None:
    catalogue = read_catalogue(str(root))
    rows = rows_by_shard(catalogue)
    assert sorted(row for part in rows.values() for row in part.tolist()) == list(
        range(len(catalogue))
    )
    offsets = catalogue.table["offset"].to_numpy()
    for name, part in rows.items():
        assert (np.diff(offsets[part]) > 0).all()
        assert {catalogue.table["shard"][row].as_py() for row in part.tolist()} == {name}
