"""Ctrl-C and SIGTERM stop a verb, also where a library takes the exception for its own."""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN_S = 0.01
"""After which a signal is sent again that came where its exception would be lost."""
_asked = threading.Event()
_sending = threading.Event()
"""A signal is about to be sent again."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM (of batch systems and containers) raise `KeyboardInterrupt`.

    So does an error that comes after one: a library has met the exception of the signal on its way.
    A SIGINT that the process was started to ignore, as a shell's background job is, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        kinds.append(signal.SIGINT)
    before = {kind: signal.signal(kind, _stop) for kind in kinds}
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_again_if_lost, hook)
    try:
        yield
    except Exception as error:
        if _asked.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        sys.unraisablehook = hook
        for kind, handler in before.items():
            signal.signal(kind, handler)
        _asked.clear()


def check_asked() -> None:
    """Raise `KeyboardInterrupt` once a signal has asked for the end.

    Long loops and phases call it: an import that a library tries, and does without when it fails,
    loses the exception of a signal that comes in the middle of it (pyarrow's of pandas). What is
    cleaned up after an exception comes to its end.
    """
    if _asked.is_set() and sys.exc_info()[0] is None:
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    met = _interrupted(frame)
    if met is not None and met.f_code.co_filename.startswith("<frozen importlib"):
        # An exception there can be lost, with a lock held that every import of a thread waits for.
        _send_again(number)
        return
    _asked.set()
    raise KeyboardInterrupt


def _interrupted(frame: FrameType | None) -> FrameType | None:
    """Where a signal came; if that was in a handler at work, where the first one came."""
    met = frame
    while frame is not None:
        if frame.f_code is _stop.__code__:
            met = frame.f_back
        frame = frame.f_back
    return met


def _send_again(number: int) -> None:
    """Once, however often it is asked for: a second signal ends a training at once."""
    if _sending.is_set():
        return
    _sending.set()

    def send() -> None:
        _sending.clear()
        os.kill(os.getpid(), number)

    again = threading.Timer(AGAIN_S, send)
    again.daemon = True
    again.start()


def _again_if_lost(tell: Callable[[Any], Any], lost: Any) -> None:
    """Python tells of an exception that nobody can catch: of a finaliser, of a weak reference."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        kept = signal.getsignal(signal.SIGINT) is _stop
        _send_again(signal.SIGINT if kept else signal.SIGTERM)
    else:
        tell(lost)
