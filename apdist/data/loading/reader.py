"""Encoded images by their row in the catalogue: neighbours in a shard come with one ranged read.

Sizes: p images that are read together.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.images import ImageError

LARGEST_GAP_BYTES = 64 << 10
"""Images this close together in a shard come with one ranged read."""

ReadRange = Callable[[str, int, int, str], bytes | bytearray]
"""URI, offset, size, ETag -> bytes; `storage.read_range`, or that of a cache."""


@dataclass(frozen=True)
class ReadRequest:
    """Images to read together, and all that reading them takes: it travels between processes."""

    shards: tuple[tuple[str, str], ...]
    """URI and ETag of the shards they lie in."""
    places: NDArray[np.int64]
    """(p, 4) int64: number of the shard, offset, size, CRC32."""
    keys: tuple[str, ...]
    """(p,) keys of the samples."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_bytes(self) -> int:
        """Encoded bytes of the images."""
        return int(self.places[:, 2].sum())

    def describe(self, number: int) -> str:
        """Shard, key and offset of an image, for error messages."""
        shard, offset = self.places[number, :2].tolist()
        where = storage.shown(self.shards[shard][0])
        return f"image {self.keys[number]!r} at byte {offset} of {where}"

    def check(self, number: int, data: bytes | memoryview) -> None:
        """Compare ``data`` with the checksum in the catalogue.

        Raises:
            ImageError: the bytes are not those that the catalogue notes.
        """
        if len(data) < int(self.places[number, 2]):
            raise ImageError("is cut off; the shard was truncated or replaced")
        if zlib.crc32(data) != int(self.places[number, 3]):
            raise ImageError("differs from its checksum; the shard was damaged or replaced")


def read_images(
    request: ReadRequest, read_range: ReadRange = storage.read_range
) -> list[memoryview]:
    """The encoded images of ``request``, in its order; neighbours are views of the same bytes."""
    found: dict[int, memoryview] = {}
    for stretch in _stretches(request.places):
        first, last = request.places[stretch[0]], request.places[stretch[-1]]
        start, end = int(first[1]), int(last[1] + last[2])
        uri, etag = request.shards[int(first[0])]
        try:
            block = memoryview(read_range(uri, start, end - start, etag))
        except storage.RangeError:
            for number in stretch:
                found[number] = _there(request, number, read_range)
            continue
        for number in stretch:
            begin = int(request.places[number, 1]) - start
            found[number] = block[begin : begin + int(request.places[number, 2])]
    return [found[number] for number in range(len(request))]


def _there(request: ReadRequest, number: int, read_range: ReadRange) -> memoryview:
    """An image of a shard that ends early; empty if it lay in the part that is missing."""
    shard, offset, size = request.places[number, :3].tolist()
    uri, etag = request.shards[shard]
    try:
        return memoryview(read_range(uri, offset, size, etag))
    except storage.RangeError:
        return memoryview(b"")


def _stretches(places: NDArray[np.int64]) -> Iterator[list[int]]:
    """Numbers of the images that one ranged read brings, in the order of their bytes."""
    stretch: list[int] = []
    for number in np.lexsort((places[:, 1], places[:, 0])).tolist():
        if stretch and not _close(places[stretch[-1]], places[number]):
            yield stretch
            stretch = []
        stretch.append(number)
    if stretch:
        yield stretch


def _close(left: NDArray[np.int64], right: NDArray[np.int64]) -> bool:
    gap = right[1] - left[1] - left[2]
    return bool(left[0] == right[0] and gap <= LARGEST_GAP_BYTES)


class ImageReader:
    """Encoded images of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        codes, self.shard_names = codes_and_names(catalogue.column("shard"))
        self.columns = [
            codes,
            *(catalogue.column(name).to_numpy() for name in ("offset", "size", "crc32")),
        ]
        self.keys = catalogue.column("key").combine_chunks()
        self.shard_list = [
            (storage.join(catalogue.root, name), catalogue.shards.get(name, (0, ""))[1])
            for name in self.shard_names
        ]

    def requests(self, rows: NDArray[np.int64], cuts: NDArray[np.int64]) -> list[ReadRequest]:
        """The images of ``rows`` (b,), to be read; the first request ends before ``cuts``[0]."""
        places = np.stack([column[rows].astype(np.int64) for column in self.columns], axis=1)
        keys = self.keys.take(rows).to_pylist()
        found, start = [], 0
        for part in np.split(places, cuts):
            codes, part[:, 0] = np.unique(part[:, 0], return_inverse=True)
            shards = tuple(self.shard_list[code] for code in codes.tolist())
            found.append(ReadRequest(shards, part, tuple(keys[start : start + len(part)])))
            start += len(part)
        return found

    def request(self, rows: NDArray[np.int64]) -> ReadRequest:
        """The images of ``rows`` (p,), to be read."""
        return self.requests(rows, np.empty(0, np.int64))[0]

    def read_one(self, row: int) -> bytes:
        """The encoded image of ``row``.

        Raises:
            ImageError: it is not what the catalogue notes.
        """
        request = self.request(np.array([row]))
        data = bytes(read_images(request)[0])
        request.check(0, data)
        return data

    def rows_of_shards(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Rows of the images that lie in the shards ``names``, in the order of the catalogue."""
        wanted = np.flatnonzero(np.isin(self.shard_names, list(names)))
        rows: NDArray[np.int64] = np.flatnonzero(np.isin(self.columns[0], wanted))
        return rows
