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

AGAIN_S = 0.05
"""After which a signal is sent again that came where its exception would be lost."""
IMPORT_CODE = "<frozen importlib"
_asked = threading.Event()
_kept = threading.Event()
"""A signal waits for the end of an import."""
_sent = threading.Event()
"""The next signal is one that is sent again."""
_again: list[threading.Timer] = []
"""Sends one again, if there is one to be sent."""


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
        for again in _again:
            again.cancel()
            if again.is_alive():  # else a second signal has come while it was started
                again.join()
        for kind, handler in before.items():
            signal.signal(kind, handler)
        for flag in (_asked, _kept, _sent):
            flag.clear()
        _again.clear()


def check_asked() -> None:
    """Raise `KeyboardInterrupt` once a signal has asked for the end.

    Long loops and phases call it: a library may take the exception for an error of its own. What is
    cleaned up after another exception comes to its end.
    """
    if _asked.is_set() and sys.exc_info()[0] is None:
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, after the import that goes on.

    In an import it could be lost: by a library that does without a module which does not import, in
    the import's own code with a lock held that all other threads wait for, in C++ that ends the
    process. A second signal ends what is imported, but for that code, at once.
    """
    met, is_ours = _interrupted(frame), _sent.is_set()
    _sent.clear()
    if is_ours and _asked.is_set():  # it has been answered since
        return
    if _is_imported(met) and (is_ours or not _kept.is_set() or _is_import_code(met)):
        _kept.set()
        _send_again(number)
        return
    _kept.clear()
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


def _is_imported(frame: FrameType | None) -> bool:
    """Whether a module is being imported there."""
    while frame is not None and not _is_import_code(frame):
        frame = frame.f_back
    return frame is not None


def _is_import_code(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(IMPORT_CODE)


def _send_again(number: int) -> None:
    """Once, however often it is asked for: a second signal ends a training at once."""
    if _again:
        return

    def send() -> None:
        _again.clear()
        _sent.set()
        os.kill(os.getpid(), number)

    again = threading.Timer(AGAIN_S, send)
    again.daemon = True
    _again.append(again)
    again.start()


def _again_if_lost(tell: Callable[[Any], Any], lost: Any) -> None:
    """Python tells of an exception that nobody can catch: of a finaliser, of a weak reference."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        _asked.clear()
        kept = signal.getsignal(signal.SIGINT) is _stop
        _send_again(signal.SIGINT if kept else signal.SIGTERM)
    else:
        tell(lost)
