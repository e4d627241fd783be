"""Encoded images by row."""

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from apdist.data import storage
from apdist.data.catalogue.catalogue import SCHEMA, Catalogue, read_catalogue
from apdist.data.images import ImageError
from apdist.data.loading.reader import LARGEST_GAP_BYTES, ImageReader, ReadRequest, read_images
from tests.data.catalogue.tables import SHARD_BYTES, rows


def test_neighbours_come_with_one_read(shards: Path) -> None:
    reads = []

    def counting(uri: str, offset: int, size: int, etag: str) -> bytes:
        reads.append(uri)
        return storage.read_range(uri, offset, size, etag)

    reader = ImageReader(read_catalogue(str(shards)).select("train"))
    first = reader.columns[0]
    request = reader.request(np.flatnonzero(first == first[0])[:4][::-1].copy())
    found = read_images(request, counting)
    assert len(reads) == 1
    for number, data in enumerate(found):
        request.check(number, data)
    apart = reader.request(np.array([0, len(first) - 1]))
    assert len(apart.shards) == 2
    for number, data in enumerate(read_images(apart, counting)):
        apart.check(number, data)
    assert len(reads) == 3


def request_of(places: list[tuple[int, int, int]]) -> ReadRequest:
    """Images of the shards a and b, by number of the shard, offset and size."""
    keys = tuple(str(number) for number in range(len(places)))
    noted = np.array([(*place, 0) for place in places])
    return ReadRequest((("a", "etag of a"), ("b", "etag of b")), noted, keys)


class Shards:
    """Notes what is read; each byte tells its offset."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.size = size
        self.reads: list[tuple[str, int, int, str]] = []

    def read(self, uri: str, offset: int, size: int, etag: str) -> bytes:
        self.reads.append((uri, offset, size, etag))
        if offset + size > self.size:
            raise storage.RangeError("ends early")
        return bytes(byte % 251 for byte in range(offset, offset + size))


@pytest.mark.parametrize(("farther", "num_reads"), [(0, 1), (1, 2)])
def test_images_come_with_one_read_up_to_the_largest_gap(farther: int, num_reads: int) -> None:
    shards = Shards()
    second = 10 + LARGEST_GAP_BYTES + farther
    found = read_images(request_of([(0, second, 3), (0, 0, 10)]), shards.read)
    assert len(shards.reads) == num_reads
    assert [bytes(data) for data in found] == [
        bytes(byte % 251 for byte in range(second, second + 3)),
        bytes(range(10)),
    ]


def test_shards_are_read_one_after_another() -> None:
    shards = Shards()
    read_images(request_of([(0, 0, 9), (1, 10, 9), (0, 20, 9), (1, 30, 9)]), shards.read)
    assert shards.reads == [("a", 0, 29, "etag of a"), ("b", 10, 29, "etag of b")]


def test_a_shard_that_ends_early_gives_the_images_before_its_end() -> None:
    shards = Shards(size=25)
    found = read_images(request_of([(0, 0, 10), (0, 10, 10), (0, 20, 10)]), shards.read)
    assert [bytes(data) for data in found] == [bytes(range(10)), bytes(range(10, 20)), b""]


def test_each_request_has_the_keys_shards_and_sizes_of_its_own_images() -> None:
    noted = {f"{n:03d}.tar": (SHARD_BYTES, f"etag {n}") for n in range(3)}
    reader = ImageReader(Catalogue("root", rows(120), noted))
    first, second = reader.requests(np.array([3, 110, 60, 4]), np.array([1]))
    assert (first.keys, second.keys) == (
        ("bild-ü/00003",),
        ("bild-ü/00110", "bild-ü/00060", "bild-ü/00004"),
    )
    assert first.shards == (("root/000.tar", "etag 0"),)
    assert second.shards == tuple((f"root/{n:03d}.tar", f"etag {n}") for n in range(3))
    assert second.places[:, 0].tolist() == [2, 1, 0]
    assert (first.num_bytes, second.num_bytes) == (10, 30)


def test_one_image_is_read_and_compared_with_its_checksum(tmp_path: Path) -> None:
    content = bytes(range(200))
    (tmp_path / "000.tar").write_bytes(content)
    sums = [zlib.crc32(content[20 * row : 20 * row + 10]) for row in range(3)]
    sums[2] ^= 1
    table = rows(3)
    place = table.schema.get_field_index("crc32")
    table = table.set_column(place, SCHEMA.field("crc32"), pa.array(sums, pa.uint32()))
    reader = ImageReader(Catalogue(str(tmp_path), table, {"000.tar": (len(content), "")}))
    assert reader.read_one(1) == content[20:30]
    with pytest.raises(ImageError, match="differs from its checksum"):
        reader.read_one(2)


def test_the_rows_of_shards_are_those_of_the_images_in_them() -> None:
    reader = ImageReader(Catalogue("root", rows(120)))
    assert reader.rows_of_shards(["002.tar", "000.tar", "other.tar"]).tolist() == [
        *range(50),
        *range(100, 120),
    ]
