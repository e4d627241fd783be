"""Bytes that several threads may hold at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Allowance:
    """At most ``limit`` bytes are out at a time; more than that is given to one alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0
        self.changed = threading.Condition()

    @contextmanager
    def of(self, num_bytes: int) -> Iterator[None]:
        """Hold ``num_bytes`` for a block, as soon as they are to be had."""
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + num_bytes <= self.limit)
            self.taken += num_bytes
        try:
            yield
        finally:
            with self.changed:
                self.taken -= num_bytes
                self.changed.notify_all()
