"""What a training run tells the person who started it, and the one thing it is told: to stop.

Workers post events to a mailbox that lives with the driver; the driver takes them out to draw the
progress, write the history and feed MLflow. Events are plain dictionaries with a ``kind``:
``start``, ``step``, ``evaluation``, ``checkpoint``, ``warning``, ``end``.
"""

import logging
import threading
from typing import Any, Protocol

Event = dict[str, Any]


class Mailbox:
    """Events from the workers and the request to stop; safe to use from several threads."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._stop = False
        self._lock = threading.Lock()

    def post(self, event: Event) -> None:
        """Add an event."""
        with self._lock:
            self._events.append(event)

    def take(self) -> list[Event]:
        """All events since the last call."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def request_stop(self) -> None:
        """Ask the workers to write a checkpoint and end."""
        self._stop = True

    def stop_requested(self) -> bool:
        """Whether somebody asked."""
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
        text = f"worker {self.rank}: {record.getMessage()}"
        self.link.post({"kind": "warning", "text": text})
