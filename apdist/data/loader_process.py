"""What a loader process runs. Importing this must stay cheap (no torch): each process does."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import numpy as np

from apdist.config import AugmentConfig
from apdist.data import storage
from apdist.data.buffers import mapped
from apdist.data.cache import CacheCounters, ShardCache
from apdist.data.filling import Filled, Order, fill
from apdist.data.retries import RetryPolicy


class LoaderError(RuntimeError):
    """A loader process is gone, or failed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How loaders work."""

    augment: AugmentConfig
    num_threads: int
    cache_dir: str = ""
    cache_bytes: int = 0
    deadline_s: float = 120.0


@dataclass(frozen=True)
class NewBuffer:
    """A buffer that tasks will name; its descriptor follows."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One piece for one part of a buffer."""

    number: int
    order: Order
    buffer: int
    start: int


class Loader:
    """Reads and decodes, and counts what this process has read."""

    def __init__(self, settings: Settings) -> None:
        storage.configure(RetryPolicy(deadline_s=settings.deadline_s))
        self.augment = settings.augment
        self.cache = (
            ShardCache(settings.cache_dir, settings.cache_bytes) if settings.cache_dir else None
        )
        self.lock = threading.Lock()
        self.counted = self._counts()

    def fill(self, order: Order, out: np.ndarray) -> Filled:
        """Fill ``out`` (p, 3, s, s); counts are those since the last time, of all threads."""
        # What lies on this machine's disk needs no cache.
        remote = storage.is_remote(order.piece.shards[0][0])
        cached = self.cache is not None and remote
        filled = fill(
            order,
            out,
            self.augment,
            self.cache.read_range if cached else storage.read_range,  # type: ignore[union-attr]
        )
        with self.lock:
            now = self._counts()
            before, self.counted = self.counted, now
        filled.num_retries, filled.num_hits, filled.num_misses = (
            b - a for a, b in zip(before, now, strict=True)
        )
        return filled

    def _counts(self) -> tuple[int, int, int]:
        cached = self.cache.counters() if self.cache else CacheCounters()
        return storage.counters().retries, cached.hits, cached.misses + cached.direct


def run(connection: Connection, settings: Settings) -> None:
    """Do tasks from ``connection`` until it ends; answers are (number, `Filled` or exception)."""
    # Ctrl-C goes to the whole group: the parent decides when loaders end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loader, lock = Loader(settings), threading.Lock()
    buffers: dict[int, np.ndarray] = {}

    def work(task: Task) -> None:
        answer: Filled | Exception
        try:
            out = buffers[task.buffer][task.start : task.start + len(task.order.piece)]
            answer = loader.fill(task.order, out)
        except (ValueError, OSError) as error:  # raised by the parent, who waits for it
            answer = error
        except Exception as error:  # another kind may not survive the way
            answer = LoaderError(f"{type(error).__name__}: {error}")
        with lock:
            connection.send((task.number, answer))

    with ThreadPoolExecutor(settings.num_threads) as pool:
        while (message := _next(connection)) is not None:
            if isinstance(message, NewBuffer):
                descriptor = recv_handle(connection)
                buffers[message.number] = mapped(descriptor, message.shape)
                os.close(descriptor)
            else:
                pool.submit(work, message)
        # Nobody waits for what is still being done.
        os._exit(0)


def _next(connection: Connection) -> NewBuffer | Task | None:
    try:
        message: NewBuffer | Task | None = connection.recv()
    except (EOFError, OSError):  # the parent is gone
        return None
    return message
