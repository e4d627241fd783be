"""Bytes that several threads may hold at once."""

import threading


class Allowance:
    """At most ``limit`` bytes are out at a time; more than that is given to one alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0
        self.changed = threading.Condition()

    def take(self, num_bytes: int) -> None:
        """Wait until ``num_bytes`` are to be had, and have them."""
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + num_bytes <= self.limit)
            self.taken += num_bytes

    def give(self, num_bytes: int) -> None:
        """Give back what was taken."""
        with self.changed:
            self.taken -= num_bytes
            self.changed.notify_all()
