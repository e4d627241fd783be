"""The mailbox between workers and driver: events one way, the request to stop the other.

It lives with the driver, who takes the events out of it.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from apdist.training.events import (
    Event,
    FromTrial,
    Started,
    Warned,
    WorkersFailed,
    refuse_unlisted,
)

Posted = TypeVar("Posted", Event, FromTrial)


class Cancelled(Exception):  # noqa: N818 - no error of this training
    """The driver has ended and takes no more events."""


class Mailbox(Generic[Posted]):
    """Events from the workers and the request to stop; safe to use from several threads."""

    def __init__(self) -> None:
        self._events: list[Posted] = []
        self._failures: list[Posted] = []
        self._hosts: dict[str, list[str]] = {}
        self._stopping: set[str] = set()
        self._room = 0
        self._cancelled = False
        self._lock = threading.Lock()

    def post(self, event: Posted) -> None:
        """Add an event.

        Raises:
            TypeError: it is none.
        """
        refuse_unlisted(event)
        with self._lock:
            event = self._with_hosts(event)
            self._events.append(event)
            if isinstance(_told(event), WorkersFailed):
                self._failures.append(event)

    def _with_hosts(self, posted: Any) -> Any:
        """A failure with the hosts of its workers; who reports it knows their ranks only."""
        trial, event = getattr(posted, "trial", ""), _told(posted)
        if isinstance(event, Started):
            self._hosts[trial] = event.hosts
        if not isinstance(event, WorkersFailed):
            return posted
        hosts = self._hosts.get(trial, [])
        failed = [hosts[rank] for rank in event.ranks if hosts[rank:]]
        event = replace(event, hosts=failed, num_workers=len(hosts))
        return replace(posted, event=event) if isinstance(posted, FromTrial) else event

    def take(self) -> list[Posted]:
        """All events since the last call."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def failures(self) -> list[Any]:
        """All failures of workers that were posted: workers that start anew read them here."""
        return list(self._failures)

    def request_stop(self, trial: str = "") -> None:
        """Ask the workers, in a sweep those of one ``trial``, to write a checkpoint and end."""
        self._stopping.add(trial)

    def tell_room(self, num_workers: int) -> None:
        """Tell the workers how many of them there is room for."""
        self._room = num_workers

    def room(self) -> int:
        """How many workers there is room for; 0: nobody has told."""
        return self._room

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

    def stop_requested(self, trial: str = "") -> bool:
        """Whether somebody asked.

        Raises:
            Cancelled: nobody is there any more to take a checkpoint.
        """
        if self._cancelled:
            raise Cancelled
        return trial in self._stopping


def _told(posted: Event | FromTrial) -> Event:
    return posted.event if isinstance(posted, FromTrial) else posted


class Link(Protocol):
    """A worker's end of the mailbox."""

    def post(self, event: Event) -> None:
        """Send an event to the driver."""

    def stop_requested(self) -> bool:
        """Whether the driver wants the run to end."""

    def failures(self) -> Sequence[WorkersFailed]:
        """The failures of workers since the driver began."""

    def room(self) -> int:
        """How many workers there is room for; 0: nobody has told."""


class WarningForwarder(logging.Handler):
    """Sends warnings of a worker to the driver, who shows them."""

    def __init__(self, link: Link, rank: int) -> None:
        super().__init__(logging.WARNING)
        self.link, self.rank = link, rank

    def emit(self, record: logging.LogRecord) -> None:
        """Post ``record`` as an event."""
        self.link.post(Warned(text=f"worker {self.rank}: {record.getMessage()}"))
