"""What a loader process runs. Importing this must stay cheap (no torch): each process does."""

import contextlib
import ctypes
import functools
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apdist.config import AugmentConfig
from apdist.data import storage
from apdist.data.loading.buffers import mapped
from apdist.data.loading.byte_semaphore import ByteSemaphore
from apdist.data.loading.decoding import Task, TaskResult, decode_into
from apdist.data.loading.reader import read_images
from apdist.data.storage.disk_cache import CacheCounters, ShardCache
from apdist.data.storage.retries import RetryPolicy

BEGIN = """
import sys
sys.path[:] = {path!r}
from apdist.data.loading.loader_process import run
run({descriptor})
"""
"""Program of a loader process."""
WARNING = -1
"""Number of an answer that is a warning."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # numbers of malloc.h


class LoaderError(RuntimeError):
    """A loader process is gone, or failed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How loaders work."""

    augment: AugmentConfig
    num_threads: int
    """Requests that a loader decodes at once."""
    num_reads: int
    """Requests that it reads meanwhile."""
    decoder: str = "pillow"
    """By its name with versions: a loader that has another one makes no image."""
    encoded_bytes: int
    """Most encoded bytes held at once; a request of more is read alone."""
    cache_dir: str = ""
    cache_bytes: int = 0
    deadline_s: float = 120.0


@dataclass(frozen=True)
class NewBuffer:
    """A buffer that submissions will name; its descriptor follows."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Submission:
    """A task, and the part of a buffer that its images go to."""

    number: int
    task: Task
    buffer: int
    start: int


class Loader:
    """Reads in some threads, decodes in others, and counts what this process has read."""

    def __init__(self, settings: Settings) -> None:
        storage.configure(RetryPolicy(deadline_s=settings.deadline_s))
        self.augment, self.decoder = settings.augment, settings.decoder
        self.cache = (
            ShardCache(settings.cache_dir, settings.cache_bytes) if settings.cache_dir else None
        )
        self.read_range = self.cache.read_range if self.cache else storage.read_range
        self.semaphore = ByteSemaphore(settings.encoded_bytes)
        self.readers = ThreadPoolExecutor(settings.num_reads, "reader")
        # Threads of their own: decoding is a tenth faster where it has its memory and its caches.
        self.decoders = ThreadPoolExecutor(settings.num_threads, "decoder")
        self.lock = threading.Lock()
        self.counted = self._counts()

    def submit(self, task: Task, out: NDArray[np.uint8]) -> "Future[TaskResult]":
        """Fill ``out`` (p, 3, s, s); counts are those of all threads since the last result."""
        future: Future[TaskResult] = Future()
        self.readers.submit(self._read, task, out, future)
        return future

    def close(self) -> None:
        """End the threads; what was not begun is dropped."""
        self.readers.shutdown(cancel_futures=True)
        self.decoders.shutdown(cancel_futures=True)

    def _read(self, task: Task, out: NDArray[np.uint8], future: "Future[TaskResult]") -> None:
        self.semaphore.acquire(task.request.num_bytes)
        try:
            started = time.perf_counter()
            encoded = read_images(task.request, self.read_range)
            seconds = time.perf_counter() - started
            self.decoders.submit(self._decode, task, encoded, out, seconds, future)
        except BaseException as error:
            self.semaphore.release(task.request.num_bytes)
            future.set_exception(error)

    def _decode(
        self,
        task: Task,
        encoded: list[memoryview],
        out: NDArray[np.uint8],
        read_s: float,
        future: "Future[TaskResult]",
    ) -> None:
        try:
            result = decode_into(task, encoded, out, self.augment, self.decoder)
            result.read_s = read_s
            with self.lock:
                now = self._counts()
                before, self.counted = self.counted, now
            result.num_retries, result.num_hits, result.num_misses = (
                b - a for a, b in zip(before, now, strict=True)
            )
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            self.semaphore.release(task.request.num_bytes)

    def _counts(self) -> tuple[int, int, int]:
        cached = self.cache.counters() if self.cache else CacheCounters()
        return storage.counters().retries, cached.hits, cached.misses + cached.direct


def run(descriptor: int) -> None:
    """Do the tasks that a connection brings; answers are (number, `TaskResult` or exception).

    Args:
        descriptor: of the connection; `Settings` come first.
    """
    keep_freed_memory()
    connection = Connection(descriptor)
    if (settings := _next(connection)) is None:
        os._exit(0)
    lock = threading.Lock()
    logging.getLogger("apdist").addHandler(_WarningSender(connection, lock))
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # ours tell of failed reads
    loader = Loader(settings)
    buffers: dict[int, NDArray[np.uint8]] = {}

    def answer(number: int, future: "Future[TaskResult]") -> None:
        error = future.exception()
        if error is not None and not isinstance(error, (ValueError, OSError)):
            error = LoaderError(f"{type(error).__name__}: {error}")  # it may not survive the way
        with lock, contextlib.suppress(OSError):  # the parent is gone: the loop below ends
            connection.send((number, error or future.result()))

    while (message := _next(connection)) is not None:
        if isinstance(message, NewBuffer):
            if (handle := _next_descriptor(connection)) is None:
                break
            buffers[message.number] = mapped(handle, message.shape)
            os.close(handle)
        else:
            out = buffers[message.buffer][message.start : message.start + len(message.task.request)]
            future = loader.submit(message.task, out)
            future.add_done_callback(functools.partial(answer, message.number))
    # Nobody waits for what is still being done.
    os._exit(0)


class _WarningSender(logging.Handler):
    """Sends warnings to the parent, who knows where they go."""

    def __init__(self, connection: Connection, lock: threading.Lock) -> None:
        super().__init__(logging.WARNING)
        self.connection, self.sending = connection, lock

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message of ``record`` as the answer to no task."""
        with self.sending, contextlib.suppress(OSError):
            self.connection.send((WARNING, record.getMessage()))


def keep_freed_memory() -> None:
    """Let glibc keep freed memory: to ask the system for it again takes a third of the time.

    Other systems are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 64 << 20)
        mallopt(_MMAP_THRESHOLD, 64 << 20)
        mallopt(_ARENA_MAX, 1)  # or each thread would keep its own


def _next(connection: Connection) -> Any:
    """What the parent sends; None: it is gone, or wants no more."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def _next_descriptor(connection: Connection) -> int | None:
    """The descriptor that the parent sends; None: it is gone, or a signal made it stop here."""
    try:
        return recv_handle(connection)
    except (EOFError, OSError, RuntimeError):
        return None
