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
from apdist.data.filling import Filled, Order, fill
from apdist.data.reader import ReadRange


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


def reading(settings: Settings) -> ReadRange:
    """How ranges are read: straight from storage, or through a cache on disk."""
    return storage.read_range


def run(connection: Connection, settings: Settings) -> None:
    """Do tasks from ``connection`` until it ends; answers are (number, `Filled` or exception)."""
    # Ctrl-C goes to the whole group: the parent decides when loaders end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    read_range, lock = reading(settings), threading.Lock()
    buffers: dict[int, np.ndarray] = {}

    def work(task: Task) -> None:
        answer: Filled | Exception
        try:
            out = buffers[task.buffer][task.start : task.start + len(task.order.piece)]
            answer = fill(task.order, out, settings.augment, read_range)
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
