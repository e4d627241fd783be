"""Sequential reading: the images of a split, shard after shard, front to back (webdataset).

Shapes: b images of h x w pixels. Images are (b, 3, h, w) uint8.
"""

import tarfile
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.images import Box, Fit, ImageError, evaluation_image
from apdist.data.loading.decoding import explain
from apdist.data.loading.reader import ImageReader, ReadRequest

Views: TypeAlias = Mapping[int, Sequence[tuple[int, Box | None]]]
"""Number and box of each view of an image, by its row; without a box the view is all of it."""
_MOST_WAITING = 4
"""Batches whose images may wait for others of their shape."""


def evaluation_batches(
    catalogue: Catalogue,
    *,
    fit: Fit,
    batch_size: int,
    num_threads: int,
    shards: Iterable[str],
    views: Views | None = None,
) -> Generator[tuple[NDArray[np.int64], Tensor], None, None]:
    """Rows (b,) and images (b, 3, h, w) of ``catalogue``, of one shape in a batch.

    Shard after shard, front to back; those of a rare shape when there are many of it, or last.

    Args:
        catalogue: what to read; other images of its shards are passed over.
        fit: how they are resized.
        batch_size: most images at once.
        num_threads: threads that decode.
        shards: names of the shards to read.
        views: parts of images in place of images, by row; their numbers come in place of rows.

    Raises:
        ImageError: an image is corrupt or missing from its shard.
    """
    reader = ImageReader(catalogue)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decoder")
    waiting = ByShape(batch_size)
    decoding: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()
    try:
        for request, row, data in _shard_samples(reader, sorted(shards)):
            for view, box in [(row, None)] if views is None else views.get(row, ()):
                decoding.append((view, pool.submit(_decode_checked, request, data, fit, box)))
                if len(decoding) == batch_size:
                    first, future = decoding.popleft()
                    yield from waiting.add(first, future.result())
        while decoding:
            row, future = decoding.popleft()
            yield from waiting.add(row, future.result())
        yield from waiting.rest()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class ByShape:
    """Images that wait for others of their shape."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._waiting: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}

    def add(self, row: int, image: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Take in an image; a batch, if there is one now."""
        alike = self._waiting.setdefault(image.shape, [])
        alike.append((row, image))
        if len(alike) == self.batch_size:
            yield self._batch(image.shape)
        elif sum(map(len, self._waiting.values())) >= _MOST_WAITING * self.batch_size:
            yield self._batch(max(self._waiting, key=lambda shape: len(self._waiting[shape])))

    def rest(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """All that is left, a shape at a time."""
        for shape in list(self._waiting):
            yield self._batch(shape)

    def _batch(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], Tensor]:
        rows, images = zip(*self._waiting.pop(shape), strict=True)
        return np.array(rows), torch.from_numpy(np.stack(images))


def shard_names(catalogue: Catalogue) -> list[str]:
    """Names of the shards that hold an image of ``catalogue``, sorted."""
    codes, names = codes_and_names(catalogue.column("shard"))
    return sorted(names[code] for code in np.unique(codes).tolist())


def open_shard(uri: str) -> Iterator[dict[str, Any]]:
    """The samples of one shard, read by `webdataset` through our storage."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    with storage.open_stream(uri) as stream:
        members = tar_file_iterator(stream, handler=_ends_at_a_cut)
        yield from group_by_keys(member | {"__url__": uri} for member in members)


def _ends_at_a_cut(error: Exception) -> bool:
    """Whether reading goes on: a shard that was cut in an image ends before it, and lacks it."""
    if isinstance(error, tarfile.ReadError):
        return False
    raise error


def _shard_samples(
    reader: ImageReader, names: list[str]
) -> Iterator[tuple[ReadRequest, int, bytes]]:
    for name in names:
        rows = reader.rows_of_shards([name])
        keys = reader.keys.take(rows).to_pylist()
        wanted = dict(zip(keys, rows.tolist(), strict=True))
        uri = storage.join(reader.catalogue.root, name)
        for sample in open_shard(uri):
            row = wanted.pop(sample["__key__"], None)
            if row is not None:
                request = reader.request(np.array([row]))
                yield request, row, _image_member(sample, request)
        if wanted:
            # webdataset takes a shard that was cut between two members for a short one.
            raise ImageError(
                f"{storage.shown(uri)} lacks {len(wanted)} images of the catalogue, "
                f"the first {next(iter(wanted))!r}; the shard was truncated or replaced"
            )


def _image_member(sample: dict[str, Any], request: ReadRequest) -> bytes:
    """The member that the catalogue notes; if none is like it, one that will fail its check."""
    members = [
        bytes(data)
        for name, data in sample.items()
        if not name.startswith("__") and isinstance(data, bytes)
    ]
    size, checksum = request.places[0, 2:].tolist()
    alike = [data for data in members if len(data) == size and zlib.crc32(data) == checksum]
    return (alike or members or [b""])[0]


def _decode_checked(
    request: ReadRequest, data: bytes, fit: Fit, box: Box | None
) -> NDArray[np.uint8]:
    try:
        request.check(0, data)
        return evaluation_image(data, fit, box)
    except ImageError as error:
        raise ImageError(explain(request.describe(0), error)) from error
