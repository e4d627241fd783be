"""The mailbox between workers and driver: events one way, the request to stop the other.

It lives with the driver, who takes the events out of it.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from apdist.training.events import Event, FromTrial, Warned, refuse_unlisted

Posted = TypeVar("Posted", Event, FromTrial)


class Cancelled(Exception):  # noqa: N818 - no error of this training
    """The driver has ended and takes no more events."""


class Mailbox(Generic[Posted]):
    """Events from the workers and the request to stop; safe to use from several threads."""

    def __init__(self) -> None:
        self._events: list[Posted] = []
        self._stop = False
        self._cancelled = False
        self._lock = threading.Lock()

    def post(self, event: Posted) -> None:
        """Add an event.

        Raises:
            TypeError: it is none.
        """
        refuse_unlisted(event)
        with self._lock:
            self._events.append(event)

    def take(self) -> list[Posted]:
        """All events since the last call."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def request_stop(self) -> None:
        """Ask the workers to write a checkpoint and end."""
        self._stop = True

    @contextmanager
    def cancelled_at_the_end(self) -> Iterator[None]:
        """Have a worker that is still there when the block ends stop at its next step.

        Unlike a worker that is asked to stop it writes nothing: the driver may have failed because
        the run's folder is gone, or the disk full.
        """
        try:
            yield
        finally:
            self._cancelled = True

    def stop_requested(self) -> bool:
        """Whether somebody asked.

        Raises:
            Cancelled: nobody is there any more to take a checkpoint.
        """
        if self._cancelled:
            raise Cancelled
        return self._stop


class Link(Protocol):
    """A worker's end of the mailbox."""

    def post(self, event: Event) -> None:
        """Send an event to the driver."""

    def stop_requested(self) -> bool:
        """Whether the driver wants the run to end."""


class WarningForwarder(logging.Handler):
    """Sends warnings of a worker to the driver, who shows them."""

    def __init__(self, link: Link, rank: int) -> None:
        super().__init__(logging.WARNING)
        self.link, self.rank = link, rank

    def emit(self, record: logging.LogRecord) -> None:
        """Post ``record`` as an event."""
        self.link.post(Warned(text=f"worker {self.rank}: {record.getMessage()}"))
