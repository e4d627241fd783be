"""Counts of what storage has transferred in this process: requests, retries and bytes."""

import threading
from dataclasses import dataclass

from apdist.data.storage.process_cache import cached_per_process


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a process has transferred so far; local files do not count."""

    requests: int = 0
    """Requests sent, those that failed included."""
    retries: int = 0
    """Tries after a failure."""
    bytes_read: int = 0
    """Bytes of objects received."""
    bytes_written: int = 0
    """Bytes of objects sent and confirmed."""

    def since(self, earlier: "Counters") -> "Counters":
        """What was transferred after ``earlier`` was taken."""
        return Counters(
            requests=self.requests - earlier.requests,
            retries=self.retries - earlier.retries,
            bytes_read=self.bytes_read - earlier.bytes_read,
            bytes_written=self.bytes_written - earlier.bytes_written,
        )


def counters() -> Counters:
    """A snapshot of this process's counters."""
    tally = _tally()
    with tally.lock:
        return Counters(**tally.counts)


def count(**more: int) -> None:
    """Add to the counters of these names."""
    tally = _tally()
    with tally.lock:
        for name, number in more.items():
            tally.counts[name] += number


class _Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts = {"requests": 0, "retries": 0, "bytes_read": 0, "bytes_written": 0}


@cached_per_process
def _tally() -> _Tally:
    return _Tally()
