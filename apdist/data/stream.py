"""Follow the plan: ranged reads ahead of need for training, sequential passes for everything else.

Shapes: b images, s side of the crop in pixels. Images are (b, 3, s, s) uint8.
"""

import logging
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apdist.config import AugmentConfig, DataConfig
from apdist.data import storage
from apdist.data.images import ImageError, evaluation_image, image_seed, training_image
from apdist.data.index import Index
from apdist.data.plan import Plan

logger = logging.getLogger(__name__)

LARGEST_GAP_BYTES = 64 << 10
"""Images this close together in a shard are read in one request."""


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch."""

    step: int
    images: Tensor  # (b, 3, s, s) uint8
    labels: Tensor  # (b,) int64
    num_replaced: int


class ImageReader:
    """Encoded images by their row in the index."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.offsets = index.column("offset").to_numpy()
        self.sizes = index.column("size").to_numpy()
        self.checksums = index.column("crc32").to_numpy()
        self.shards = index.column("shard").combine_chunks()
        self.shard_codes = self.shards.indices.to_numpy()

    def read(self, rows: np.ndarray) -> list[bytes]:
        """The encoded images of ``rows``; neighbours in a shard come with one request."""
        order = sorted(rows.tolist(), key=lambda row: (self.shard_codes[row], self.offsets[row]))
        found: dict[int, bytes] = {}
        for stretch in self._stretches(order):
            start = int(self.offsets[stretch[0]])
            end = int(self.offsets[stretch[-1]] + self.sizes[stretch[-1]])
            uri = self.shard_uri(stretch[0])
            etag = self.index.shards.get(self.shard_name(stretch[0]), (0, ""))[1]
            block = storage.read_range(uri, start, end - start, etag)
            for row in stretch:
                begin = int(self.offsets[row]) - start
                found[row] = block[begin : begin + int(self.sizes[row])]
        return [found[row] for row in rows.tolist()]

    def read_one(self, row: int) -> bytes:
        """The encoded image of ``row``."""
        return self.read(np.array([row]))[0]

    def check(self, row: int, data: bytes) -> None:
        """Compare with the checksum in the index.

        Raises:
            ImageError: the bytes are not those that were indexed.
        """
        if zlib.crc32(data) != self.checksums[row]:
            raise ImageError("differs from its checksum; the shard was damaged or replaced")

    def shard_name(self, row: int) -> str:
        """File name of the shard that holds ``row``."""
        return str(self.shards.dictionary[int(self.shard_codes[row])].as_py())

    def shard_uri(self, row: int) -> str:
        """Where that shard lies."""
        return storage.join(self.index.root, self.shard_name(row))

    def describe(self, row: int) -> str:
        """Shard, key and offset, for error messages."""
        key = self.index.column("key")[row].as_py()
        return f"image {key!r} at byte {self.offsets[row]} of {self.shard_uri(row)}"

    def _stretches(self, order: list[int]) -> Iterator[list[int]]:
        stretch: list[int] = []
        for row in order:
            if stretch and not self._close(stretch[-1], row):
                yield stretch
                stretch = []
            stretch.append(row)
        if stretch:
            yield stretch

    def _close(self, left: int, right: int) -> bool:
        gap = self.offsets[right] - self.offsets[left] - self.sizes[left]
        return bool(self.shard_codes[left] == self.shard_codes[right] and gap <= LARGEST_GAP_BYTES)


class TrainingStream:
    """Decoded, augmented batches of one worker, read ahead by a pool of threads.

    Args:
        index: the training split.
        plan: the global batches over it.
        data: image size, threads, read-ahead, what to do with a corrupt image.
        augment: random changes.
        own_rows: cuts a global batch (B,) down to this worker's rows.
    """

    def __init__(
        self,
        index: Index,
        plan: Plan,
        data: DataConfig,
        augment: AugmentConfig,
        own_rows: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.reader, self.plan, self.data, self.augment = ImageReader(index), plan, data, augment
        self.own_rows = own_rows
        self.labels = index.labels
        self.keys = index.column("key")

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of steps ``start`` to ``stop`` - 1."""
        pool = ThreadPoolExecutor(self.data.loader_threads, thread_name_prefix="loader")
        ahead: deque[tuple[int, np.ndarray, list[Future[tuple[np.ndarray, int]]]]] = deque()
        steps = iter(range(start, stop))
        try:
            while True:
                while len(ahead) <= self.data.read_ahead_steps and (step := next(steps, -1)) >= 0:
                    rows = self.own_rows(self.plan.rows(step))
                    pieces = np.array_split(rows, max(1, len(rows) // self.data.group_size))
                    epoch = self.plan.epoch_of(step)[0]
                    ahead.append((step, rows, [pool.submit(self._load, p, epoch) for p in pieces]))
                if not ahead:
                    return
                yield self._assemble(*ahead.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _assemble(
        self, step: int, rows: np.ndarray, parts: list[Future[tuple[np.ndarray, int]]]
    ) -> Batch:
        done = [part.result() for part in parts]
        return Batch(
            step=step,
            images=torch.from_numpy(np.concatenate([images for images, _ in done])),
            labels=torch.from_numpy(self.labels[rows]),
            num_replaced=sum(replaced for _, replaced in done),
        )

    def _load(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, int]:
        """Read and decode ``rows``; also how many had to be replaced."""
        side = self.data.image_size
        images = np.empty((len(rows), 3, side, side), dtype=np.uint8)
        replaced = 0
        for i, (row, data) in enumerate(zip(rows.tolist(), self.reader.read(rows), strict=True)):
            try:
                images[i] = self._decode(row, data, epoch)
            except ImageError as error:
                if self.data.on_corrupt == "error":
                    raise ImageError(_explain(self.reader.describe(row), error)) from error
                logger.warning("%s %s; replaced", self.reader.describe(row), error)
                images[i] = self._substitute(row, epoch)
                replaced += 1
        return images, replaced

    def _decode(self, row: int, data: bytes, epoch: int) -> np.ndarray:
        self.reader.check(row, data)
        seed = image_seed(self.plan.seed, epoch, self.keys[row].as_py())
        return training_image(data, self.data.image_size, self.augment, seed)

    def _substitute(self, row: int, epoch: int) -> np.ndarray:
        """The next readable image of the same class."""
        others = np.flatnonzero(self.labels == self.labels[row])
        for other in np.roll(others, -1 - int(np.searchsorted(others, row)))[:-1].tolist():
            try:
                return self._decode(other, self.reader.read_one(other), epoch)
            except ImageError:
                continue
        raise ImageError(f"{self.reader.describe(row)} is corrupt, and so is all of its class")


def evaluation_batches(
    index: Index, *, side: int, batch_size: int, num_threads: int, shards: Iterable[str]
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows (b,) and images (b, 3, s, s) of ``index``, shard after shard, front to back.

    Args:
        index: what to read; other images of its shards are passed over.
        side: the images' side in pixels.
        batch_size: most images at once.
        num_threads: threads that decode.
        shards: names of the shards to read.

    Raises:
        ImageError: an image is corrupt or missing from its shard.
    """
    reader = ImageReader(index)
    names = sorted(shards)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decoder")
    try:
        rows: list[int] = []
        futures: list[Future[np.ndarray]] = []
        for row, data in _shard_samples(reader, names):
            rows.append(row)
            futures.append(pool.submit(_decode_checked, reader, row, data, side))
            if len(rows) == batch_size:
                yield _collect(rows, futures)
                rows, futures = [], []
        if rows:
            yield _collect(rows, futures)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def shard_names(index: Index) -> list[str]:
    """Names of the shards that hold an image of ``index``, sorted."""
    return sorted(index.column("shard").combine_chunks().cast("string").unique().to_pylist())


def _shard_samples(reader: ImageReader, names: list[str]) -> Iterator[tuple[int, bytes]]:
    keys = reader.index.column("key")
    for name in names:
        codes = np.flatnonzero(reader.shards.dictionary.to_numpy(zero_copy_only=False) == name)
        rows = np.flatnonzero(np.isin(reader.shard_codes, codes))
        wanted = dict(zip(keys.take(rows).to_pylist(), rows.tolist(), strict=True))
        for sample in open_shard(storage.join(reader.index.root, name)):
            row = wanted.pop(sample["__key__"], None)
            if row is not None:
                yield row, _image_member(sample)
        if wanted:
            # webdataset takes a shard that was cut between two members for a short one.
            raise ImageError(
                f"{storage.join(reader.index.root, name)} lacks {len(wanted)} images of the index, "
                f"the first {next(iter(wanted))!r}; the shard was truncated or replaced"
            )


def open_shard(uri: str) -> Iterator[dict[str, Any]]:
    """The samples of one shard, read by `webdataset` through our storage."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    with storage.open_stream(uri) as stream:
        members = tar_file_iterator(stream)
        yield from group_by_keys(member | {"__url__": uri} for member in members)


def _image_member(sample: dict[str, Any]) -> bytes:
    """The sample's image: the member that is neither label nor metadata."""
    for extension, data in sample.items():
        if not extension.startswith("__") and extension not in ("json", "cls", "txt"):
            return bytes(data)
    raise ImageError(f"sample {sample['__key__']!r} holds no image")


def _decode_checked(reader: ImageReader, row: int, data: bytes, side: int) -> np.ndarray:
    try:
        reader.check(row, data)
        return evaluation_image(data, side)
    except ImageError as error:
        raise ImageError(_explain(reader.describe(row), error)) from error


def _explain(where: str, error: ImageError) -> str:
    return f"{where} {error}; prepare the data again, or train with --data.on-corrupt replace"


def _collect(rows: list[int], futures: list[Future[np.ndarray]]) -> tuple[np.ndarray, Tensor]:
    return np.array(rows), torch.from_numpy(np.stack([future.result() for future in futures]))
