"""Refuse a catalogue with impossible rows: missing values, places outside a shard, equal keys.

Row group by row group, in whole arrays: ten million rows take seconds and little memory.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from apdist.data.catalogue.columns import StoredColumns, numbers

_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 1 << 64)
KEYS_AT_ONCE = 20_000
"""Few enough for the sums to stay in the processor's cache."""


@dataclass(frozen=True)
class _Part:
    """Neighbouring rows of the catalogue."""

    uri: str
    table: pa.Table

    def refuse(self, row: int, what: str) -> ValueError:
        key, shard = self.table["key"][row].as_py(), self.table["shard"][row].as_py()
        return ValueError(
            f"{self.uri}: image {key!r} of shard {shard!r} {what}; prepare or index it again"
        )


def check_rows(columns: StoredColumns, shards: Mapping[str, tuple[int, str]]) -> None:
    """Compare all rows with each other and with the sizes of their shards.

    Args:
        columns: the catalogue.
        shards: size in bytes and ETag of each shard.

    Raises:
        ValueError: the first impossible row, by shard and key.
    """
    hashes = np.empty(len(columns), dtype=np.uint64)
    start = 0
    for table in columns.parts(["shard", "key", "label", "split", "offset", "size"]):
        part = _Part(columns.uri, table)
        _check_present(part)
        codes = _check_places(part, shards)
        stop = start + table.num_rows
        hashes[start:stop] = key_hashes(table["key"]) ^ mixed(codes)
        start = stop
    _check_unique(columns, hashes)


def _check_present(part: _Part) -> None:
    for name in part.table.column_names:
        if part.table[name].null_count:
            row = int(np.flatnonzero(part.table[name].is_null().to_numpy())[0])
            raise part.refuse(row, f"has no {name}")


def _check_places(part: _Part, shards: Mapping[str, tuple[int, str]]) -> NDArray[np.int64]:
    """Number of each row's shard in ``shards``, (n,)."""
    column = part.table["shard"].combine_chunks()
    names = column.dictionary.to_pylist()
    place_of = {name: number for number, name in enumerate(shards)}
    known = np.array([place_of.get(name, -1) for name in names], dtype=np.int64)
    limits = np.array([shards.get(name, (0, ""))[0] for name in names], dtype=np.int64)
    codes: NDArray[np.int32] = numbers(column.indices)
    lost = np.flatnonzero(known[codes] < 0)
    if len(lost):
        raise part.refuse(int(lost[0]), "lies in a shard that the catalogue does not list")
    offsets, sizes = (numbers(part.table[name].combine_chunks()) for name in ("offset", "size"))
    # Compared without a sum: a damaged offset near 2**63 would wrap around.
    outside = (offsets < 0) | (sizes < 0) | (offsets > limits[codes] - sizes)
    if outside.any():
        row = int(outside.argmax())
        place = f"{sizes[row]} bytes at {offsets[row]}"
        raise part.refuse(row, f"lies outside of it: {place}, of {limits[codes[row]]} bytes")
    shard_numbers: NDArray[np.int64] = known[codes]
    return shard_numbers


def _check_unique(columns: StoredColumns, hashes: NDArray[np.uint64]) -> None:
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return
    # Different keys may share a hash, so the keys themselves decide.
    rows = np.flatnonzero(np.isin(hashes, twice))
    part = _Part(columns.uri, pa.table({n: columns.column(n).take(rows) for n in ("shard", "key")}))
    seen = set()
    for row, pair in enumerate(zip(*part.table.to_pydict().values(), strict=True)):
        if pair in seen:
            raise part.refuse(row, "has the key of another image")
        seen.add(pair)


def key_hashes(keys: pa.ChunkedArray) -> NDArray[np.uint64]:
    """(n,) uint64 hash of each string.

    for each string: sum over its bytes i of byte * _FACTOR**i, modulo 2**64, then mixed
    """
    found = [
        _hashes_of(chunk.slice(start, KEYS_AT_ONCE))
        for chunk in keys.chunks
        for start in range(0, len(chunk), KEYS_AT_ONCE)
    ]
    return np.concatenate(found) if found else np.empty(0, dtype=np.uint64)


def _hashes_of(keys: pa.StringArray) -> NDArray[np.uint64]:
    # A string's sum is a difference of running sums; the inverse undoes where it started.
    _, offsets_buffer, bytes_buffer = keys.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32, len(keys) + 1, 4 * keys.offset)
    offsets = offsets.astype(np.int64)
    length = int(offsets[-1] - offsets[0])
    sums = np.zeros(length + 1, dtype=np.uint64)
    if length:
        characters = np.frombuffer(bytes_buffer, np.uint8, length, int(offsets[0]))
        # One more than the byte, so that a zero byte counts.
        terms = (characters.astype(np.uint64) + np.uint64(1)) * _powers(_FACTOR, length)
        np.cumsum(terms, out=sums[1:])
    places = offsets - offsets[0]
    return mixed(np.diff(sums[places]) * _powers(_INVERSE, length + 1)[places[:-1]])


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    return _known_powers(base, 1 << count.bit_length())[:count]


@functools.lru_cache(maxsize=4)
def _known_powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


def mixed(numbers: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Spread (n,) integers over all 64 bits (the last steps of MurmurHash3)."""
    bits = numbers.astype(np.uint64) + np.uint64(1)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(33))
