"""Follow the plan: a worker's part of each global batch, read and decoded ahead of need.

Shapes: B images in a global batch, b on this worker, s side of the crop in pixels. Images are
(b, 3, s, s) uint8.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.config import AugmentConfig, DataConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import ImageError
from apdist.data.loading.buffers import Buffer, Buffers
from apdist.data.loading.filling import Filled, Order, explain, fill
from apdist.data.loading.loader_process import Settings
from apdist.data.loading.pool import Pool, new_pool
from apdist.data.loading.reader import ImageReader, Piece, read_piece
from apdist.data.loading.telemetry import StreamFigures, figures_of
from apdist.data.plan.plan import Plan

logger = logging.getLogger(__name__)

_PIECE_IMAGES = 16
"""Images that travel to a loader together: one by one takes a tenth of the time of decoding."""
_ENCODED_SHARE = 0.25
"""Of the memory for reading ahead."""
# More would bring nothing: a loader that is slower on the whole is not helped by a longer queue.
_MOST_STEPS_AHEAD = 16


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch; its images are overwritten once the next is taken."""

    step: int
    images: Tensor
    """(b, 3, s, s) uint8."""
    labels: Tensor
    """(b,) int64."""
    figures: StreamFigures


@dataclass(frozen=True)
class _Ahead:
    """A batch that is being read."""

    step: int
    rows: NDArray[np.int64]
    buffer: Buffer
    pieces: list[tuple[int, Order, "Future[Filled]"]]
    """Place of its first image, what was ordered, what came of it."""

    def is_ready(self) -> bool:
        return all(future.done() for _, _, future in self.pieces)


class TrainingStream:
    """Decoded, augmented batches of one worker.

    Args:
        catalogue: the training split.
        plan: the global batches over it.
        data: image size, loaders, memory, what to do with a corrupt image.
        augment: random changes.
        own_rows: cuts a global batch (B,) down to this worker's rows.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        plan: Plan,
        data: DataConfig,
        augment: AugmentConfig,
        own_rows: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    ) -> None:
        self.reader, self.plan, self.data, self.augment = (
            ImageReader(catalogue),
            plan,
            data,
            augment,
        )
        self.own_rows = own_rows
        self.labels = catalogue.labels
        self.settings = Settings(
            augment=augment,
            num_threads=data.loader_threads,
            num_reads=data.loader_reads,
            encoded_bytes=_encoded_bytes(data) // max(1, data.loader_processes),
            cache_dir=data.cache_dir,
            cache_bytes=int(data.cache_gib * 2**30),
            deadline_s=data.read_deadline_s,
        )

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of steps ``start`` to ``stop`` - 1.

        Raises:
            ValueError: an image is corrupt, or ``data.read_ahead_mib`` holds no batch.
            StorageError: a shard cannot be read.
            LoaderError: a loader process died.
        """
        pool, buffers = new_pool(self.data.loader_processes, self.settings), Buffers()
        ahead: deque[_Ahead] = deque()
        steps = iter(range(start, stop))
        used: Buffer | None = None
        try:
            while True:
                if used is not None:
                    buffers.give(used)
                while len(ahead) < self.steps_ahead() and (step := next(steps, -1)) >= 0:
                    ahead.append(self._order(step, pool, buffers))
                if not ahead:
                    return
                asked, num_ready = time.perf_counter(), sum(one.is_ready() for one in ahead)
                one = ahead.popleft()
                parts = [future.result() for _, _, future in one.pieces]
                replaced = sum(self._replace(one, *piece) for piece in one.pieces)
                figures = figures_of(
                    parts,
                    waited_s=time.perf_counter() - asked,
                    num_ready=num_ready,
                    num_replaced=replaced,
                )
                used = one.buffer
                yield Batch(
                    one.step,
                    torch.from_numpy(one.buffer.images),
                    torch.from_numpy(self.labels[one.rows]),
                    figures,
                )
        finally:
            pool.close()
            buffers.close()

    def steps_ahead(self) -> int:
        """Batches that ``data.read_ahead_mib`` holds beside the one in use; at least one.

        Raises:
            ValueError: it holds none.
        """
        num_images = len(self.own_rows(np.arange(self.plan.demand.batch_size)))
        size = max(1, num_images * 3 * self.data.image_size**2)
        room = (self.data.read_ahead_mib << 20) - _encoded_bytes(self.data)
        number = room // size
        if number < 1:
            needed = math.ceil(size / 2**20 / (1 - _ENCODED_SHARE))
            raise ValueError(
                f"data.read_ahead_mib {self.data.read_ahead_mib} holds no batch: the "
                f"{num_images} images of a step take {size / 2**20:.1f} MiB on this worker, and "
                f"encoded ones a quarter of it all; use --data.read-ahead-mib {needed} or more"
            )
        return min(number, _MOST_STEPS_AHEAD)

    def _order(self, step: int, pool: Pool, buffers: Buffers) -> _Ahead:
        """Have the images of ``step`` read, some groups at a time: a group is mostly one read."""
        rows, side = self.own_rows(self.plan.rows(step)), self.data.image_size
        buffer = buffers.take((len(rows), 3, side, side))
        epoch, pieces, start = self.plan.epoch_of(step)[0], [], 0
        num_images = min(_PIECE_IMAGES, max(1, len(rows) // (2 * self.data.num_decoders)))
        for piece in self.reader.pieces(rows, piece_ends(self.labels[rows], num_images)):
            order = Order(piece, self.plan.seed, epoch)
            pieces.append((start, order, pool.submit(order, buffer, start)))
            start += len(piece)
        return _Ahead(step, rows, buffer, pieces)

    def _replace(self, one: _Ahead, start: int, order: Order, future: "Future[Filled]") -> int:
        """Put others in the place of corrupt images; returns how many.

        Raises:
            ImageError: images are corrupt and are not to be replaced.
        """
        corrupt = future.result().corrupt
        for number, reason in corrupt.items():
            where = order.piece.describe(number)
            if self.data.on_corrupt == "error":
                raise ImageError(explain(where, reason))
            logger.warning("%s %s; replaced", where, reason)
            row, place = int(one.rows[start + number]), start + number
            self._substitute(row, order.epoch, one.buffer.images[place : place + 1])
        return len(corrupt)

    def _substitute(self, row: int, epoch: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (1, 3, s, s) with the next readable image of the same class."""
        others = np.flatnonzero(self.labels == self.labels[row])
        for other in np.roll(others, -1 - int(np.searchsorted(others, row)))[:-1]:
            order = Order(self.reader.piece(np.array([other])), self.plan.seed, epoch)
            if not fill(order, read_piece(order.piece), out, self.augment).corrupt:
                return
        piece: Piece = self.reader.piece(np.array([row]))
        raise ImageError(f"{piece.describe(0)} is corrupt, and so is all of its class")


def piece_ends(labels: NDArray[np.int64], num_images: int) -> NDArray[np.int64]:
    """Where to cut ``labels`` (b,) between two classes, each about ``num_images`` later."""
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    wanted = np.searchsorted(changes, np.arange(num_images, len(labels), num_images))
    ends: NDArray[np.int64] = changes[np.unique(wanted[wanted < len(changes)])]
    return ends


def _encoded_bytes(data: DataConfig) -> int:
    """Memory of a worker for images that are read and not yet decoded."""
    return int((data.read_ahead_mib << 20) * _ENCODED_SHARE)
