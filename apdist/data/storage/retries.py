"""Try again with growing waits until one deadline for the whole operation."""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlsplit

from apdist.addresses import shown
from apdist.data.storage.errors import NobodyThereError, StorageError, TransientError
from apdist.data.storage.transfers import count

logger = logging.getLogger(__name__)

T = TypeVar("T")
QUIET_TRIES = 2
"""Failures in a row that are not worth a warning: on a network of thousands they are normal."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long an operation on storage may take, and how it waits between its tries."""

    deadline_s: float = 120.0
    """Seconds an operation, or 8 MiB of a longer read, may take with all its tries and waits."""
    first_wait_s: float = 0.2
    """Seconds before the second try; each further wait is twice as long, give or take half."""
    longest_wait_s: float = 10.0
    """Seconds that no wait exceeds by more than half."""
    connect_timeout_s: float = 10.0
    """Seconds after which a connection that does not open is given up."""
    silence_timeout_s: float = 30.0
    """Seconds without a byte after which a connection is given up."""
    unanswered_s: float = math.inf
    """Seconds for which a server that has never answered this process may refuse connections: then
    its address is wrong, or it does not run."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")


_policies = [RetryPolicy()]
_answering: set[str] = set()
"""Servers that have answered this process."""


def configure(policy: RetryPolicy) -> RetryPolicy:
    """Use ``policy`` for all operations of this process that start from now on.

    Returns:
        the policy that it replaces.
    """
    previous, _policies[0] = _policies[0], policy
    return previous


@contextmanager
def at_most(deadline_s: float) -> Iterator[None]:
    """Inside, operations of this process take no longer, with all their tries and waits."""
    policy = _policies[0]
    configure(replace(policy, deadline_s=min(deadline_s, policy.deadline_s)))
    try:
        yield
    finally:
        configure(policy)


class Attempts:
    """The tries of one operation on ``uri``."""

    def __init__(self, uri: str) -> None:
        self.uri, self.policy = uri, _policies[0]
        self.started = time.monotonic()
        self.num_failures = 0
        self.last_error: TransientError | None = None

    def left_s(self) -> float:
        """Seconds to the deadline, at least a millisecond: it serves as a timeout."""
        return max(0.001, self.started + self.policy.deadline_s - time.monotonic())

    def check_deadline(self) -> None:
        """Fail if the deadline is over.

        Raises:
            TransientError: it is; the next call to `wait` ends the operation.
        """
        if time.monotonic() - self.started > self.policy.deadline_s:
            raise TransientError("too slow")

    def progressed(self) -> None:
        """A try came further than the one before: the next wait is a short one again."""
        self.num_failures = 0
        self.answered()

    def answered(self) -> None:
        """The server is there."""
        _answering.add(_server(self.uri))

    def wait(self, error: TransientError) -> None:
        """Sleep before the next try.

        Raises:
            StorageError: the deadline would be over by then.
        """
        policy = self.policy
        wait_s = min(policy.first_wait_s * 2 ** min(self.num_failures, 30), policy.longest_wait_s)
        wait_s *= random.uniform(0.5, 1.5)  # noqa: S311
        spent_s = time.monotonic() - self.started
        self._refuse_unanswered(error, spent_s + wait_s)
        if spent_s + wait_s > policy.deadline_s:
            # What the deadline itself cut short says less than what was answered before.
            told = (self.last_error or error) if spent_s > policy.deadline_s else error
            raise StorageError(
                f"{shown(self.uri)}: gave up after {spent_s:.1f} s (deadline "
                f"{policy.deadline_s:g} s): {told}; check the network and the server"
            ) from error
        self.last_error = error
        self.num_failures += 1
        level = logging.WARNING if self.num_failures > QUIET_TRIES else logging.DEBUG
        logger.log(level, "%s: %s; again in %.2f s", shown(self.uri), error, wait_s)
        count(retries=1)
        time.sleep(wait_s)

    def _refuse_unanswered(self, error: TransientError, by_then_s: float) -> None:
        if str(error).startswith("HTTP "):  # a status
            self.answered()
        if not isinstance(error, NobodyThereError) or _server(self.uri) in _answering:
            return
        if by_then_s > self.policy.unanswered_s:
            where = "AWS_ENDPOINT_URL" if self.uri.startswith("s3://") else "the address"
            raise StorageError(
                f"{shown(self.uri)}: {error}, no server listens there; check {where}, and that the "
                "server runs"
            ) from error


def _server(uri: str) -> str:
    """What one server answers for; all of S3 is one."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] if parts.scheme != 's3' else ''}"


def retrying(uri: str, action: Callable[[Attempts], T]) -> T:
    """The result of ``action``, tried again as long as it raises TransientError.

    Raises:
        StorageError: the deadline is over, or ``action`` raised it.
    """
    attempts = Attempts(uri)
    while True:
        try:
            result = action(attempts)
        except TransientError as error:
            attempts.wait(error)
        else:
            attempts.answered()
            return result
