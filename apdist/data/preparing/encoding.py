"""Work in several processes that end with this one, however it ends."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from apdist.data.child_signals import starting_children

T = TypeVar("T")

CHUNK = 16
"""Images that a process takes at once."""
GRACE_S = 5.0
"""Seconds in which a process ends by itself once nobody waits for its result."""
_LONGEST_START_S = 2.0


def encode_all(
    contents: list[Any], encode: Callable[[Any], T], num_processes: int
) -> Generator[T, None, None]:
    """What ``encode``, a module-level function, makes of each of ``contents``, in order."""
    if num_processes <= 1:
        yield from map(encode, contents)
        return
    with _processes(num_processes) as pool:
        # Windows bound the memory: finished images wait here until the writer takes them.
        window = 16 * CHUNK * num_processes
        for start in range(0, len(contents), window):
            with starting_children():
                images = pool.map(encode, contents[start : start + window], chunksize=CHUNK)
            yield from images


def each_as_done(
    jobs: Sequence[Any], work: Callable[[Any], T], num_processes: int
) -> Generator[tuple[int, T], None, None]:
    """Number and result of each job, as they finish; ``work`` is a module-level function.

    For few jobs that take long: ``work`` calls `check_stopped` now and then.
    """
    if num_processes <= 1:
        yield from ((number, work(job)) for number, job in enumerate(jobs))
        return
    with _processes(num_processes) as pool:
        with starting_children():
            futures = {pool.submit(work, job): number for number, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()


@contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """A pool; when the block is left by an exception, `check_stopped` tells its processes."""
    # spawn: a fork of a process that holds threads (torch, Ray, a progress bar) can deadlock.
    context = multiprocessing.get_context("spawn")
    # Before any process is: it would unblock the signals that these are to be spared.
    resource_tracker.ensure_running()
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        number, mp_context=context, initializer=_end_with_parent, initargs=(theirs,)
    )
    try:
        yield pool
    except BaseException:
        ours.close()
        raise
    finally:
        _shut(pool)
        ours.close()
        theirs.close()


def _shut(pool: ProcessPoolExecutor) -> None:
    """Wait for the processes of ``pool``; jobs that have not begun are not done."""
    deadline = time.monotonic() + _LONGEST_START_S
    while True:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
            return
        except RuntimeError:  # a signal came while the pool was starting the thread that it joins
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)


def check_stopped() -> None:
    """Raise if nobody waits for the result of this process any more."""
    if _stopped.is_set():
        raise InterruptedError("stopped")


_stopped = threading.Event()


def _end_with_parent(stop: Connection) -> None:
    """Watch for the end of the parent, which cannot tell its pool when it is killed.

    And for the end of the other side of ``stop``, which the parent closes when it wants no result.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        if parent.sentinel not in wait([parent.sentinel, stop]):
            _stopped.set()
            # A process that is killed while it sends a result would leave its parent hanging;
            # one that has not looked up by now hangs itself, in a read.
            wait([parent.sentinel], GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
