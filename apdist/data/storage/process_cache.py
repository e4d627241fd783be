"""A cache for each process: the first caller makes the value, a forked child makes its own."""

import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def cached_per_process(make: Callable[P, T]) -> Callable[P, T]:
    """Remember what ``make`` returns for the last few arguments.

    Unlike `functools.lru_cache`, threads that come together do not make one each. A forked child
    must share neither its parent's sockets nor a lock that nobody will release.
    """
    remembered = functools.lru_cache(maxsize=8)(make)
    locks = [threading.Lock()]

    def begin_anew() -> None:
        locks[0] = threading.Lock()
        remembered.cache_clear()

    os.register_at_fork(after_in_child=begin_anew)

    @functools.wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> T:
        with locks[0]:
            return remembered(*args, **kwargs)  # type: ignore[arg-type]

    return get
