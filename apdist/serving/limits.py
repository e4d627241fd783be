"""What a request may ask for, how much is held at once, and how one is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from apdist.data.images import MAX_PIXELS

RETRY_AFTER_S = 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one server."""

    bytes: int = 20_000_000
    """Of an uploaded picture, encoded."""
    pixels: int = 50_000_000
    """Of an uploaded picture, decoded: a bomb of a few bytes must not take the memory."""
    requests: int = 256
    """Searches at once, those that wait among them; one more is told to come again."""
    held_bytes: int = 256_000_000
    """Of all uploads that are in memory."""
    k: int = 1000
    """Results of a search."""
    upload_s: float = 30.0
    """Seconds that a body may take to arrive."""

    def __post_init__(self) -> None:
        for name in ("bytes", "pixels", "requests", "held_bytes", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} must be at least 1, got {getattr(self, name)}")
        if self.pixels > MAX_PIXELS:
            raise ValueError(
                f"limits.pixels must be at most {MAX_PIXELS}, more are decoded nowhere, got "
                f"{self.pixels}"
            )

    @property
    def body_bytes(self) -> int:
        """Of a body: the picture may come in base64, with other fields around it."""
        return self.bytes * 4 // 3 + 65_536


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        code: for programs.
        message: for people: what was expected, what came, what to do.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    @property
    def headers(self) -> dict[str, str]:
        """That belong to the answer."""
        if self.status == 503:
            return {"Retry-After": str(RETRY_AFTER_S)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    @property
    def content(self) -> dict[str, dict[str, str]]:
        """The answer, for JSON."""
        return {"error": {"code": self.code, "message": self.message}}


def busy(reason: str) -> RefusedError:
    """A refusal for now."""
    return RefusedError(503, "busy", f"{reason}; try again after {RETRY_AFTER_S} s")


class Admission:
    """Counts what is under way. Of the event loop's thread alone.

    Args:
        limits: what is let in.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.num_requests, self.num_bytes = limits, 0, 0

    @contextmanager
    def request(self) -> Iterator[Held]:
        """Inside, a search is under way.

        Raises:
            RefusedError: as many as may be are so already.
        """
        if self.num_requests >= self.limits.requests:
            raise busy(f"{self.num_requests} searches are under way")
        self.num_requests += 1
        held = Held(self)
        try:
            yield held
        finally:
            held.release()
            self.num_requests -= 1


class Held:
    """Bytes of one request."""

    def __init__(self, admission: Admission) -> None:
        self._admission, self._num_bytes = admission, 0

    def take(self, num_bytes: int) -> None:
        """Count more bytes.

        Raises:
            RefusedError: all uploads together would take too much memory.
        """
        if self._admission.num_bytes + num_bytes > self._admission.limits.held_bytes:
            raise busy("uploads take all the memory that they may")
        self._admission.num_bytes += num_bytes
        self._num_bytes += num_bytes

    def release(self) -> None:
        """Count none any more."""
        self._admission.num_bytes -= self._num_bytes
        self._num_bytes = 0


class Budget:
    """Something of which there is so much, for all threads together.

    Args:
        most: of it; who asks for more takes all of it.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._changed = threading.Condition()

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Inside, ``amount`` is taken; who comes when there is too little waits."""
        amount = min(amount, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()
