"""Signals of a driver that must not be interrupted in the middle of a call of Ray."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Ray puts its own in place when it starts: a SIGTERM would end the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        try:
            yield
        finally:
            _put_in_place(before)
    except SystemExit:  # that is what Ray's own does, perhaps while it is being replaced
        _put_in_place(before)
        raise KeyboardInterrupt from None


def _put_in_place(handlers: dict[signal.Signals, Any]) -> None:
    for kind, handler in handlers.items():
        signal.signal(kind, handler)


class _Counter(list[int]):
    """A signal handler that notes the signals it gets."""

    def __call__(self, number: int, _frame: object) -> None:
        self.append(number)


@contextmanager
def counted_signals() -> Iterator[list[int]]:
    """A list that grows with each SIGINT or SIGTERM (they are left alone outside the main thread).

    A handler that raised could interrupt Ray in the middle of a call; the caller looks instead.
    Inside another such block the list is the outer one's.
    """
    outer = signal.getsignal(signal.SIGINT)
    if isinstance(outer, _Counter):
        yield outer
        return
    signals = _Counter()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {kind: signal.signal(kind, signals) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
