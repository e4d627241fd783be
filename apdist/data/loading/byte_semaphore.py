"""A semaphore that counts bytes."""

import threading


class ByteSemaphore:
    """At most ``limit`` bytes are held at a time; who wants more than that holds them alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self.changed = threading.Condition()

    def acquire(self, num_bytes: int) -> None:
        """Wait until ``num_bytes`` are free, and hold them."""
        with self.changed:
            self.changed.wait_for(lambda: not self.held or self.held + num_bytes <= self.limit)
            self.held += num_bytes

    def release(self, num_bytes: int) -> None:
        """Free what was acquired."""
        with self.changed:
            self.held -= num_bytes
            self.changed.notify_all()
