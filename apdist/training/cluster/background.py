"""A call in a thread of its own, so that the main thread is free for signals and events."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LONGEST_END_S = 5.0
"""How long the end of a thread is waited for when its result is not wanted any more."""


class Background:
    """What a thread does, returns or raises.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread: threading.Thread | None = None
        self._results: list[Any] = []
        self._failures: list[BaseException] = []

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Wait for the thread when the block ends, however it ends.

        A thread that computes on while the interpreter is taken down ends the process by SIGABRT.
        One that takes too long is left for the end of the command, which no thread survives.
        """
        try:
            yield
        finally:
            self.wait(LONGEST_END_S)

    def start(self, work: Callable[[], Any]) -> None:
        """Begin with ``work``."""

        def run() -> None:
            try:
                self._results.append(work())
            except BaseException as error:  # handed to whoever asks for the result
                self._failures.append(error)

        # A daemon: a step may take minutes, and nobody wants to wait for it after a second Ctrl-C.
        self._thread = threading.Thread(target=run, name=self.name, daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        """Whether there is no result yet."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        """Return when it has ended, or after a while."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def result(self) -> Any:
        """What it returned.

        Raises:
            BaseException: what it raised.
        """
        if self._failures:
            raise self._failures[0]
        return self._results[0]
