"""Rows that cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apdist.data.catalogue.catalogue import (
    SCHEMA,
    read_catalogue,
)
from apdist.data.catalogue.checks import KEYS_AT_ONCE, key_hashes
from tests.data.catalogue.tables import SHARD_BYTES, rows, write


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    kind = SCHEMA.field(name).type
    return table.set_column(SCHEMA.names.index(name), name, pa.array(values).cast(kind))


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
