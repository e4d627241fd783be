"""Prefetch the batches of the plan: a worker's part of each, read and decoded ahead of need.

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
from apdist.data.decoders import resolved
from apdist.data.images import ImageError
from apdist.data.loading.buffers import Buffer, BufferPool
from apdist.data.loading.decoding import Task, TaskResult, decode_into, explain
from apdist.data.loading.loader_process import Settings
from apdist.data.loading.pool import Pool, new_pool
from apdist.data.loading.reader import ImageReader, ReadRequest, read_images
from apdist.data.loading.telemetry import StreamFigures, figures_of
from apdist.data.plan.batch_sampler import Plan

logger = logging.getLogger(__name__)

_REQUEST_IMAGES = 16
"""Images of a task, about: one by one, sending them would take a tenth of the time of decoding."""
_ENCODED_SHARE = 0.25
"""Of the memory for prefetching."""
# More would bring nothing: a loader that is slower on the whole is not helped by a longer queue.
_MOST_PREFETCHED = 16


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
class _Prefetched:
    """A batch that is being read, or is ready."""

    step: int
    rows: NDArray[np.int64]
    buffer: Buffer
    tasks: list[tuple[int, Task, "Future[TaskResult]"]]
    """Place of its first image, the task, and its result."""

    def is_ready(self) -> bool:
        return all(future.done() for _, _, future in self.tasks)


class TrainingStream:
    """Decoded, augmented batches of one worker.

    Args:
        catalogue: the training split.
        plan: the global batches over it.
        data: image size, loaders, memory, what to do with a corrupt image.
        augment: random changes.
        own_rows: cuts a global batch (B,) down to this worker's rows.

    Raises:
        ValueError: ``data.decoder`` is not here.
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
            decoder=resolved(data.decoder),
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
        pool, buffers = new_pool(self.data.loader_processes, self.settings), BufferPool()
        prefetched: deque[_Prefetched] = deque()
        steps = iter(range(start, stop))
        used: Buffer | None = None
        try:
            while True:
                if used is not None:
                    buffers.release(used)
                while len(prefetched) < self.num_prefetched() and (step := next(steps, -1)) >= 0:
                    prefetched.append(self._prefetch(step, pool, buffers))
                if not prefetched:
                    return
                asked, num_ready = time.perf_counter(), sum(one.is_ready() for one in prefetched)
                one = prefetched.popleft()
                parts = [future.result() for _, _, future in one.tasks]
                replaced = sum(self._replace(one, *task) for task in one.tasks)
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

    def num_prefetched(self) -> int:
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
        return min(number, _MOST_PREFETCHED)

    def _prefetch(self, step: int, pool: Pool, buffers: BufferPool) -> _Prefetched:
        """Start to load ``step`` in tasks of whole groups: a group is mostly one read."""
        rows, side = self.own_rows(self.plan.rows(step)), self.data.image_size
        buffer = buffers.acquire((len(rows), 3, side, side))
        epoch, tasks, start = self.plan.epoch_of(step)[0], [], 0
        num_images = min(_REQUEST_IMAGES, max(1, len(rows) // (2 * self.data.num_decoders)))
        for request in self.reader.requests(rows, request_cuts(self.labels[rows], num_images)):
            task = Task(request, self.plan.seed, epoch)
            tasks.append((start, task, pool.submit(task, buffer, start)))
            start += len(request)
        return _Prefetched(step, rows, buffer, tasks)

    def _replace(
        self, one: _Prefetched, start: int, task: Task, future: "Future[TaskResult]"
    ) -> int:
        """Put other images in the place of corrupt ones; returns how many.

        Raises:
            ImageError: images are corrupt and are not to be replaced.
        """
        corrupt = future.result().corrupt
        for number, reason in corrupt.items():
            where = task.request.describe(number)
            if self.data.on_corrupt == "error":
                raise ImageError(explain(where, reason))
            logger.warning("%s %s; replaced", where, reason)
            row, place = int(one.rows[start + number]), start + number
            self._substitute(row, task.epoch, one.buffer.images[place : place + 1])
        return len(corrupt)

    def _substitute(self, row: int, epoch: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (1, 3, s, s) with the next readable image of the same class."""
        others = np.flatnonzero(self.labels == self.labels[row])
        for other in np.roll(others, -1 - int(np.searchsorted(others, row)))[:-1]:
            task = Task(self.reader.request(np.array([other])), self.plan.seed, epoch)
            encoded = read_images(task.request)
            if not decode_into(task, encoded, out, self.augment, self.settings.decoder).corrupt:
                return
        request: ReadRequest = self.reader.request(np.array([row]))
        raise ImageError(f"{request.describe(0)} is corrupt, and so is all of its class")


def request_cuts(labels: NDArray[np.int64], num_images: int) -> NDArray[np.int64]:
    """Where ``labels`` (b,) is cut into requests of about ``num_images``, between two classes."""
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    wanted = np.searchsorted(changes, np.arange(num_images, len(labels), num_images))
    ends: NDArray[np.int64] = changes[np.unique(wanted[wanted < len(changes)])]
    return ends


def _encoded_bytes(data: DataConfig) -> int:
    """Memory of a worker for images that are read and not yet decoded."""
    return int((data.read_ahead_mib << 20) * _ENCODED_SHARE)
