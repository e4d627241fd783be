"""Compare shards with their catalogue: what is missing, was replaced, or has other bytes."""

import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names

SKIP_BYTES = 1 << 20
POLL_S = 0.2
COMPARED = ("key", "offset", "size", "crc32")
Columns = dict[str, pa.ChunkedArray]
"""Of the catalogue, each read once; none where images are not read."""


@dataclass(frozen=True)
class Difference:
    """One thing that differs from the catalogue."""

    shard: str
    key: str
    """Empty where the whole shard differs."""
    offset: int
    """Of the image's bytes; -1 where the whole shard differs."""
    what: str


def check_shards(
    catalogue: Catalogue,
    *,
    deep: bool,
    num_threads: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Difference]:
    """What differs from ``catalogue``, in the order of the shards.

    Args:
        catalogue: what the shards should hold.
        deep: read every image and compare its checksum, not only sizes and ETags.
        num_threads: shards looked at together.
        progress: called with the number of images done.
    """
    stop = threading.Event()
    tally = _Tally()
    rows = rows_by_shard(catalogue)
    columns: Columns = {name: catalogue.column(name) for name in COMPARED} if deep else {}

    def check(shard: str) -> list[Difference]:
        return list(_check_shard(catalogue, columns, shard, rows[shard], tally, stop))

    with ThreadPoolExecutor(num_threads, thread_name_prefix="check") as pool:
        futures = [pool.submit(check, shard) for shard in sorted(rows)]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, POLL_S)
                for future in done:
                    future.result()  # the first error ends it
                progress(tally.count)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [difference for future in futures for difference in future.result()]


class _Tally:
    """A number that several threads add to."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def add(self, number: int) -> None:
        with self.lock:
            self.count += number


def rows_by_shard(catalogue: Catalogue) -> dict[str, NDArray[np.int64]]:
    """Rows of the images of each shard, in the order in which they lie there."""
    codes, names = codes_and_names(catalogue.column("shard"))
    order = np.lexsort((catalogue.column("offset").to_numpy(), codes))
    edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
    found = {name: order[edges[i] : edges[i + 1]] for i, name in enumerate(names)}
    # A shard that holds no usable image belongs to the data set, too.
    return {name: np.empty(0, dtype=np.int64) for name in catalogue.shards} | found


def _check_shard(
    catalogue: Catalogue,
    columns: Columns,
    shard: str,
    rows: NDArray[np.int64],
    tally: _Tally,
    stop: threading.Event,
) -> Iterator[Difference]:
    uri = storage.join(catalogue.root, shard)
    if not storage.exists(uri):
        yield Difference(shard, "", -1, f"missing, with {len(rows)} images")
        tally.add(len(rows))
        return
    now = storage.version(uri)
    size, etag = catalogue.shards.get(shard, (now.size, now.etag))
    if now.size != size:
        yield Difference(shard, "", -1, f"size changed from {size} to {now.size} bytes")
    elif now.etag != etag:
        yield Difference(shard, "", -1, f"replaced: its ETag was {etag} and is {now.etag}")
    if columns:
        with storage.open_stream(uri) as stream:
            yield from _check_images(columns, shard, rows, stream, tally, stop)
    else:
        tally.add(len(rows))


def _check_images(
    columns: Columns,
    shard: str,
    rows: NDArray[np.int64],
    stream: IO[bytes],
    tally: _Tally,
    stop: threading.Event,
) -> Iterator[Difference]:
    """Read the shard once, front to back, and compare each image's checksum."""
    cells = zip(*(columns[name].take(rows).to_pylist() for name in COMPARED), strict=True)
    position = 0
    for number, (key, offset, size, crc32) in enumerate(cells, 1):
        if stop.is_set():
            return
        while position < offset and (skipped := stream.read(min(SKIP_BYTES, offset - position))):
            position += len(skipped)
        data = stream.read(size) if position == offset else b""
        position += len(data)
        if len(data) < size:
            left = len(rows) - number
            also = f", and {left} more behind it" if left else ""
            yield Difference(shard, key, offset, f"cut off: {len(data)} of {size} bytes{also}")
            tally.add(1 + left)
            return
        if zlib.crc32(data) != crc32:
            yield Difference(shard, key, offset, "other bytes: its checksum differs")
        tally.add(1)
