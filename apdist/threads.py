"""Work of compiled functions on the threads that torch multiplies matrices on.

After a product those wait for the next one, for milliseconds and without sleeping. Threads of our
own would have to share the cores with them: work of half a millisecond on two cores took 2.7 ms
right after a product, and 1.2 ms where it waited on torch's threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")
Turn = Callable[[], None]
Team = Callable[[Turn, int], None]
"""Calls a function once on each of so many threads, and returns when all have returned."""

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_FIRST_PROCESS = os.getpid()


def on_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What ``work`` returns for each of the ``parts``, done by as many threads as torch uses.

    Only work that lets go of Python's lock is done at the same time.

    Raises:
        BaseException: what the first part that failed raised, after all threads have returned;
            parts that no thread had begun are left out then.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1 or len(parts) <= 1:
        return [work(part) for part in parts]
    results: list[Any] = [None] * len(parts)
    failures: dict[int, BaseException] = {}
    waiting = deque(range(len(parts)))

    def take_turns() -> None:
        while True:
            try:
                number = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = work(parts[number])
            except BaseException as failure:  # a thread of C has nobody to raise it to
                failures[number] = failure
                waiting.clear()

    # The library ends threads that one team does not need, and starts them again for the next.
    (_team_of_torch() or _own_team)(take_turns, num_threads)
    if failures:
        raise failures[min(failures)]
    return results


def _team_of_torch() -> Team | None:
    """Torch's own threads, if its OpenMP is the GNU one. A fork has none of its parent's."""
    return None if os.getpid() != _FIRST_PROCESS else _team_of(_openmp())


def _team_of(library: ctypes.CDLL | None) -> Team | None:
    if library is None:
        return None

    def run(turn: Turn, num_threads: int) -> None:
        library.GOMP_parallel(_Callback(lambda _: turn()), None, num_threads, 0)

    return run


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch has loaded; another would start threads of its own."""
    if not sys.platform.startswith("linux") or not torch.backends.openmp.is_available():
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return None
    return library if hasattr(library, "GOMP_parallel") else None


def _own_team(turn: Turn, num_threads: int) -> None:
    others = [_pool(os.getpid(), num_threads - 1).submit(turn) for _ in range(num_threads - 1)]
    turn()
    for other in others:
        other.result()


@functools.lru_cache(maxsize=4)
def _pool(_process: int, num_threads: int) -> ThreadPoolExecutor:
    """Threads of one process: a fork inherits the object but not its threads."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="apdist")
