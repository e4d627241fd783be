"""Processes that are started whole, and that leave it to this one when they end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_KINDS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def starting_children() -> Iterator[None]:
    """Processes started inside never see SIGINT and SIGTERM, which all of a group are sent.

    One that this process gets meanwhile is handled when the block ends: a handler that raises in
    the middle of a start would leave a process that waits for its orders.
    """
    came: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # The mask alone is not enough: any other thread may take a signal of the process, and
        # Python runs the handler in this one.
        for kind in _KINDS:
            if callable(handler := signal.getsignal(kind)):
                handlers[kind] = handler
                signal.signal(kind, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _KINDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        if came:
            signal.raise_signal(came[0])
