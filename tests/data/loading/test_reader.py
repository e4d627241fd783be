"""Encoded images by row."""

from pathlib import Path

import numpy as np

from apdist.data import storage
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.reader import ImageReader, read_images


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
