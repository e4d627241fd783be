"""Dynamic batching: what comes within a few milliseconds is worked on together, in one thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Collects jobs, and hands them on in batches.

        the first job opens a batch; it is closed when it is full, or when the wait is over

    While a batch is worked on the next ones queue up: under load batches are full without a wait.

    Args:
        work: answers to the jobs of a batch, in their order; an exception is the answer to its job.
        most: jobs of a batch.
        wait_s: for more jobs after the first.
    """

    def __init__(
        self, work: Callable[[list[T]], Sequence[R | Exception]], *, most: int, wait_s: float
    ) -> None:
        if most < 1 or wait_s < 0:
            raise ValueError(
                f"expected a batch of 1 or more and no negative wait: {most}, {wait_s}"
            )
        self._work, self.most, self.wait_s = work, most, wait_s
        self._queue: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Jobs that are in no batch yet."""
        return self._queue.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are worked on."""
        return self._thread.is_alive()

    def submit(self, job: T) -> Future[R]:
        """The answer to ``job``, when it is there.

        Raises:
            RuntimeError: the batcher is closed.
        """
        answer: Future[R] = Future()
        with self._closing:
            if self._is_closed:
                raise RuntimeError("the batcher is closed")
            self._queue.put((job, answer))
        return answer

    def close(self) -> None:
        """Work on what was submitted, then end."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next()
            # Who asked may have gone.
            batch = [
                (job, answer) for job, answer in batch if answer.set_running_or_notify_cancel()
            ]
            if batch:
                self._answer(batch)

    def _next(self) -> tuple[list[tuple[T, Future[R]]], bool]:
        """The next batch, and whether there may be more."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, until = [first], time.monotonic() + self.wait_s
        while len(batch) < self.most:
            left = until - time.monotonic()
            try:
                one = self._queue.get(block=left > 0, timeout=max(left, 0))
            except queue.Empty:
                break
            if one is None:
                return batch, False
            batch.append(one)
        return batch, True

    def _answer(self, batch: list[tuple[T, Future[R]]]) -> None:
        try:
            found = self._work([job for job, _ in batch])
        except Exception as error:  # of all jobs: none may wait for ever
            found = [error] * len(batch)
        for (_, answer), one in zip(batch, found, strict=True):
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)
