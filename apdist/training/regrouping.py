"""When all workers of a run end to start again as another group, and what that costs."""

import time
from collections.abc import Iterable

from apdist.training.events import WorkersFailed

HOUR_MS = 3_600_000
PATIENCE_S = 2.0
"""What workers occupied is free some time after their end: less room is believed after that."""


class Regrouped(Exception):  # noqa: N818 - nothing has failed
    """All workers end after a checkpoint, so that others start from it.

    Args:
        cause: a preemption notice that a worker got, or room for more of them.
        ranks: of the workers with a notice.
    """

    def __init__(self, cause: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(cause, ranks)  # so that it can be pickled
        self.cause, self.ranks = cause, ranks

    def __str__(self) -> str:
        return self.cause


def never_preempted() -> str:
    """The preemption notice of a worker that nobody takes away: none."""
    return ""


def within_an_hour(failures: Iterable[WorkersFailed], until_ms: int) -> list[WorkersFailed]:
    """Those of ``failures`` that use up restarts at that time."""
    since_ms = until_ms - HOUR_MS
    return [f for f in failures if f.is_counted and since_ms < f.time_ms <= until_ms]


class RestartBudget:
    """How often workers may fail: so many times in any hour."""

    def __init__(self, per_hour: int) -> None:
        self.per_hour = per_hour
        self._spent_ms: list[int] = []

    def spend(self, now_ms: int) -> bool:
        """Whether the run goes on after a failure of now."""
        self._spent_ms = [ms for ms in self._spent_ms if ms > now_ms - HOUR_MS] + [now_ms]
        return len(self._spent_ms) <= self.per_hour


class WorkerCount:
    """How many workers there are to be, between ``least`` and ``most``."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self._asked_s: float | None = None
        self._seen = 0

    def to_start(self, room: int, now_s: float | None = None) -> int | None:
        """How many to start now where there is room for that many; None: wait."""
        now_s = time.monotonic() if now_s is None else now_s
        if self._asked_s is None:
            self._asked_s = now_s
        if room < self.most and (room < self.least or now_s < self._asked_s + PATIENCE_S):
            return None
        self._asked_s, self._seen = None, 0
        return min(room, self.most)

    def to_grow(self, room: int, there: int) -> int:
        """How many there could be in place of those ``there``; what is seen once may pass."""
        before, self._seen = self._seen, min(room, self.most)
        return max(there, min(before, self._seen))
