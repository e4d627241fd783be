"""Ctrl-C and SIGTERM stop a verb, also where a library takes the exception for its own."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 0.01
"""After which a signal that came inside of an import's own code is sent again."""
_asked = threading.Event()


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
    try:
        yield
    except Exception as error:
        if _asked.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        _asked.clear()


def check_asked() -> None:
    """Raise `KeyboardInterrupt` once a signal has asked for the end.

    Long loops call it: an import that a library tries, and does without when it fails, loses the
    exception of a signal that comes in the middle of it (pyarrow's of pandas).
    """
    if _asked.is_set():
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        # An exception there can be lost, with a lock held that every import of a thread waits for.
        again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    _asked.set()
    raise KeyboardInterrupt
