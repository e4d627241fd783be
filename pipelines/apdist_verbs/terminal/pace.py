"""How fast work goes and when it will be done: arithmetic on (time, number done, pauses).

Times are seconds of whatever clock the caller has; nothing here looks at one.
"""

from collections import deque

WINDOW_S = 60.0
"""Seconds of work over which a rate is taken."""
GRAIN_S = 0.1
LEAST_S = 1.0
"""Less work than that tells no rate: what was ready before it was asked for comes in no time."""


class Pace:
    """How fast it goes: over a recent stretch of work, without the pauses between.

    The first update counts for nothing: what came before it is the time that starting took, and
    the step that compiles and warms up.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        """Seconds of work, and how many were done by then."""
        self.start(0)

    def start(self, done: int) -> None:
        """Forget what was before, with its clock: the work begins, perhaps on another machine."""
        self.last = done
        self._seen.clear()
        self._paused_s = 0.0
        self._pause_began: float | None = None

    def add(self, done: int, now: float) -> None:
        """Note an update, which ends a pause; one that goes back is a start."""
        if done < self.last:
            self.start(done)
        self.resume(now)
        self.last = done
        worked = now - self._paused_s
        if len(self._seen) > 1 and worked - self._seen[-2][0] < GRAIN_S:
            self._seen.pop()  # thousands of updates a second need not all be kept
        self._seen.append((worked, done))
        while len(self._seen) > 2 and worked - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    def pause(self, now: float) -> None:
        """Something else than the work begins, or goes on."""
        if self._pause_began is None:
            self._pause_began = now

    def resume(self, now: float) -> None:
        """The work goes on."""
        if self._pause_began is not None:
            self._paused_s += now - self._pause_began
            self._pause_began = None

    def rate(self) -> float:
        """Number done in a second of work; 0 where too little was seen."""
        if len(self._seen) < 2:
            return 0.0
        (before, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - before) if now - before >= LEAST_S else 0.0

    def left(self, total: int) -> str:
        """Rate and remaining time as a person reads them; empty where too little was seen."""
        rate = self.rate()
        if not rate:
            return ""
        remaining = total - self.last
        ahead = f"  {duration(remaining / rate)} left" if remaining > 0 else ""
        return f"{speed(rate)}{ahead}"


def speed(rate: float) -> str:
    """A rate with two digits or more; a slow one as seconds each."""
    if rate < 1:
        return f"{1 / rate:.1f} s each"
    return f"{rate:.1f}/s" if rate < 10 else f"{rate:.0f}/s"


def duration(seconds: float) -> str:
    """``50 s``, ``12 min``, ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
