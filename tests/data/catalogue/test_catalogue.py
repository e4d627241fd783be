import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apdist.data.catalogue.catalogue import (
    FORMAT_VERSION,
    SCHEMA,
    Catalogue,
    read_catalogue,
    write_catalogue,
)
from apdist.data.catalogue.checks import KEYS_AT_ONCE, key_hashes
from apdist.data.catalogue.columns import StoredColumns

SHARD_BYTES = 1000


def rows(count: int, *, num_splits: int = 1, mixed: bool = False) -> pa.Table:
    """So many images of 10 bytes, in shards of 50."""
    numbers = np.arange(count)
    splits = numbers % num_splits if mixed else numbers * num_splits // max(count, 1)
    columns: dict[str, Any] = {
        "shard": [f"{n // 50:03d}.tar" for n in numbers],
        "key": [f"bild-ü/{n:05d}" for n in numbers],
        "source": [f"folder/{n}.jpg" for n in numbers],
        "label": numbers // 5,
        "label_name": [f"class {n // 5}" for n in numbers],
        "split": [f"split {s}" for s in splits],
        "offset": (numbers % 50) * 20,
        "size": np.full(count, 10),
        "crc32": numbers,
        "width": numbers,
        "height": numbers,
    }
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in SCHEMA], schema=SCHEMA)


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    kind = SCHEMA.field(name).type
    return table.set_column(SCHEMA.names.index(name), name, pa.array(values).cast(kind))


def write(root: Path, table: pa.Table, *, row_group_size: int = 30, **meta: Any) -> str:
    """A catalogue file as `write_index` makes it, but with small row groups and no checks."""
    shards = dict.fromkeys(table["shard"].unique().to_pylist(), (SHARD_BYTES, ""))
    meta = {"version": FORMAT_VERSION, "num_images": len(table), "shards": shards, **meta}
    known = {k: v for k, v in meta.items() if v is not None}
    pq.write_table(
        table.replace_schema_metadata({"apdist": json.dumps(known)}),
        root / "index.parquet",
        row_group_size=row_group_size,
        write_page_checksum=True,
    )
    return str(root)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.booleans(), st.integers(1, 70))
def test_a_split_read_from_a_file_is_that_of_the_table(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    num_splits: int,
    mixed: bool,
    row_group_size: int,
) -> None:
    table = rows(count, num_splits=num_splits, mixed=mixed)
    root = tmp_path_factory.mktemp("index")
    catalogue = read_catalogue(write(root, table, row_group_size=row_group_size))
    in_memory = Catalogue(str(root), table)
    assert catalogue.table.to_pylist() == table.to_pylist()
    assert catalogue.splits() == in_memory.splits()
    for split, number in catalogue.splits().items():
        part, expected = catalogue.select(split), in_memory.select(split)
        assert len(part) == number
        assert part.table.to_pylist() == expected.table.to_pylist()
        assert part.subset(np.array([0])).table.to_pylist() == expected.table[:1].to_pylist()
        again = part.subset(np.arange(len(part))[::2])
        assert again.labels.tolist() == expected.labels[::2].tolist()


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path, rows(100, num_splits=2)))
    part = catalogue.select("split 1")
    assert part.labels.tolist() == [n // 5 for n in range(50, 100)]
    assert isinstance(part.columns, StoredColumns)
    assert set(part.columns._known) == {"label"}


def test_neighbours_are_selected_without_a_copy() -> None:
    table = rows(100, num_splits=2)
    part = Catalogue("", table).select("split 1")
    bytes_of = [t["key"].chunk(0).buffers()[2].address for t in (table, part.table)]
    assert bytes_of[0] == bytes_of[1]


def test_a_catalogue_without_images_is_read(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path, rows(0)))
    assert len(catalogue) == 0
    assert catalogue.labels.tolist() == []
    with pytest.raises(ValueError, match="it has no image"):
        catalogue.select("train")


def damaged_anywhere(data: bytes) -> list[bytes]:
    random = np.random.default_rng(0)
    cut = [data[:size] for size in random.integers(0, len(data), 30).tolist()]
    flipped = []
    for place in random.integers(0, len(data), 150).tolist():
        copy = bytearray(data)
        copy[place] ^= 1 << int(random.integers(8))
        flipped.append(bytes(copy))
    return [*cut, *flipped, data + b"more", b"PAR1", b""]


def test_a_damaged_file_gives_its_rows_or_a_one_line_error(tmp_path: Path) -> None:
    table = rows(200)
    path = Path(write(tmp_path, table)) / "index.parquet"
    outcomes = []
    for data in damaged_anywhere(path.read_bytes()):
        path.write_bytes(data)
        outcomes.append(outcome(tmp_path, table))
    assert set(outcomes) == {"same", "refused"}
    assert outcomes.count("refused") > 60


def outcome(root: Path, table: pa.Table) -> str:
    try:
        read = read_catalogue(str(root)).table
    except ValueError as error:
        in_one_line = str(root) in str(error) and "again" in str(error) and "\n" not in str(error)
        return "refused" if in_one_line else f"refused without reason: {error}"
    # Numbers of statistics and unused names of the footer may differ without harm.
    return "same" if read.to_pylist() == table.to_pylist() else "differs"


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"version": 99}, "format version 99, this apdist reads 1; prepare it again"),
        ({"version": None}, "no catalogue of apdist or is damaged; prepare it again"),
        ({"num_images": 7}, "no catalogue of apdist or is damaged; prepare it again"),
        ({"shards": [1]}, "no catalogue of apdist or is damaged; prepare it again"),
        ({"shards": {"000.tar": "big"}}, "no catalogue of apdist or is damaged; prepare it again"),
    ],
)
def test_metadata_that_cannot_be_are_refused(
    tmp_path: Path, meta: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_catalogue(write(tmp_path, rows(9), **meta))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop_columns(["label"]),
            "lacks the column label; prepare the catalogue again",
        ),
        (lambda t: t.drop_columns(["crc32", "key"]), "lacks the column crc32, key"),
        (
            lambda t: with_column(t, "label", [*range(69), None]),
            "image 'bild-ü/00069' of shard '001.tar' has no label; prepare or index it again",
        ),
        (
            lambda t: with_column(t, "key", [*t["key"].to_pylist()[:69], "bild-ü/00055"]),
            "image 'bild-ü/00055' of shard '001.tar' has the key of another image",
        ),
        (
            lambda t: with_column(t, "offset", [*range(69), SHARD_BYTES - 9]),
            "image 'bild-ü/00069' of shard '001.tar' lies outside of it: "
            "10 bytes at 991, of 1000 bytes",
        ),
        (lambda t: with_column(t, "offset", [-1, *range(69)]), "'bild-ü/00000' .* at -1, of 1000"),
        (lambda t: with_column(t, "offset", [2**63 - 5] * 70), "10 bytes at 9223372036854775803"),
        (lambda t: with_column(t, "size", [-10] * 70), "-10 bytes at 0, of 1000"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_catalogue(write(tmp_path, change(rows(70))))


def test_a_shard_that_the_catalogue_does_not_list_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, rows(70), shards={"000.tar": (SHARD_BYTES, "")})
    with pytest.raises(ValueError, match="'bild-ü/00050' of shard '001.tar' lies in a shard that"):
        read_catalogue(root)


def test_an_image_may_reach_to_the_end_of_its_shard_and_be_empty(tmp_path: Path) -> None:
    table = with_column(rows(2), "offset", [SHARD_BYTES - 10, SHARD_BYTES])
    assert len(read_catalogue(write(tmp_path, with_column(table, "size", [10, 0])))) == 2


def test_equal_keys_in_different_shards_are_two_images(tmp_path: Path) -> None:
    keys = [f"{n % 50:05d}" for n in range(100)]
    assert len(read_catalogue(write(tmp_path, with_column(rows(100), "key", keys)))) == 100


def test_a_file_that_is_replaced_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path, rows(100)))
    write_catalogue(Catalogue(str(tmp_path), rows(40), {"000.tar": (SHARD_BYTES, "")}))
    assert catalogue.table.to_pylist() == rows(100).to_pylist()
    assert len(read_catalogue(str(tmp_path))) == 40


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=6), unique=True, max_size=60), st.integers(0, 59))
def test_different_keys_have_different_hashes_and_equal_ones_the_same(
    keys: list[str], start: int
) -> None:
    array = pa.array(keys, pa.string())
    hashes = key_hashes(pa.chunked_array([array]))
    assert len(np.unique(hashes)) == len(keys)
    if keys:
        # The same strings elsewhere in a buffer, one by one and as a slice.
        parts = pa.chunked_array([pa.array([key]) for key in keys])
        assert np.array_equal(key_hashes(parts), hashes)
        moved = pa.chunked_array([pa.concat_arrays([pa.array(["x", "yz"]), array])[2 + start :]])
        assert np.array_equal(key_hashes(moved), hashes[start:])


def test_numbered_keys_have_different_hashes() -> None:
    count = 2 * KEYS_AT_ONCE + 17
    hashes = key_hashes(pa.chunked_array([pa.array([f"a/{n}" for n in range(count)])]))
    assert len(np.unique(hashes)) == count


def test_the_fingerprint_tells_labels_contents_and_their_order_apart(shards: Path) -> None:
    catalogue = read_catalogue(str(shards))
    table = catalogue.table
    known = {catalogue.fingerprint()}
    assert dataclasses.replace(catalogue, columns=table).fingerprint() in known
    for name in ("label", "crc32"):
        values = table[name].to_numpy().copy()
        values[[0, -1]] = values[[-1, 0]]
        place = table.schema.get_field_index(name)
        changed = table.set_column(place, table.schema.field(name), pa.array(values))
        found = dataclasses.replace(catalogue, columns=changed).fingerprint()
        assert found not in known
        known.add(found)
