"""Encode images in several processes that end with this one, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 16
"""Images that a process takes at once."""


def encode_all(contents: list[Any], encode: Callable[[Any], T], num_processes: int) -> Iterator[T]:
    """``encode`` of each of ``contents``, in order; a module-level function."""
    if num_processes <= 1:
        yield from map(encode, contents)
        return
    # spawn: a fork of a process that holds threads (torch, Ray, a progress bar) can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with_parent)
    try:
        # Windows bound the memory: finished images wait here until the writer takes them.
        window = 16 * CHUNK * num_processes
        for start in range(0, len(contents), window):
            with _without_ctrl_c():
                images = pool.map(encode, contents[start : start + window], chunksize=CHUNK)
            yield from images
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes started inside never get the Ctrl-C that their terminal sends to all.

    This process handles it; one that comes in between arrives when the block ends.
    """
    # Started before: it would unblock the signal when it starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Watch for the end of the parent: one that is killed cannot tell its pool."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
