"""Sequential reading: the images of a split, shard after shard, front to back (webdataset).

Shapes: b images, s side of the crop in pixels. Images are (b, 3, s, s) uint8.
"""

import zlib
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.images import ImageError, evaluation_image
from apdist.data.loading.decoding import explain
from apdist.data.loading.reader import ImageReader, ReadRequest


def evaluation_batches(
    catalogue: Catalogue,
    *,
    side: int,
    batch_size: int,
    num_threads: int,
    shards: Iterable[str],
    interpolation: str = "bicubic",
) -> Generator[tuple[NDArray[np.int64], Tensor], None, None]:
    """Rows (b,) and images (b, 3, s, s) of ``catalogue``, shard after shard, front to back.

    Args:
        catalogue: what to read; other images of its shards are passed over.
        side: the images' side in pixels.
        batch_size: most images at once.
        num_threads: threads that decode.
        shards: names of the shards to read.
        interpolation: how images are resized, a name of Pillow's filters.

    Raises:
        ImageError: an image is corrupt or missing from its shard.
    """
    reader = ImageReader(catalogue)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decoder")
    try:
        rows: list[int] = []
        futures: list[Future[NDArray[np.uint8]]] = []
        for request, row, data in _shard_samples(reader, sorted(shards)):
            rows.append(row)
            futures.append(pool.submit(_decode_checked, request, data, side, interpolation))
            if len(rows) == batch_size:
                yield _collect(rows, futures)
                rows, futures = [], []
        if rows:
            yield _collect(rows, futures)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def shard_names(catalogue: Catalogue) -> list[str]:
    """Names of the shards that hold an image of ``catalogue``, sorted."""
    codes, names = codes_and_names(catalogue.column("shard"))
    return sorted(names[code] for code in np.unique(codes).tolist())


def open_shard(uri: str) -> Iterator[dict[str, Any]]:
    """The samples of one shard, read by `webdataset` through our storage."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    with storage.open_stream(uri) as stream:
        members = tar_file_iterator(stream)
        yield from group_by_keys(member | {"__url__": uri} for member in members)


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
                f"{uri} lacks {len(wanted)} images of the catalogue, "
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
    request: ReadRequest, data: bytes, side: int, interpolation: str
) -> NDArray[np.uint8]:
    try:
        request.check(0, data)
        return evaluation_image(data, side, interpolation)
    except ImageError as error:
        raise ImageError(explain(request.describe(0), error)) from error


def _collect(
    rows: list[int], futures: list[Future[NDArray[np.uint8]]]
) -> tuple[NDArray[np.int64], Tensor]:
    return np.array(rows), torch.from_numpy(np.stack([future.result() for future in futures]))
