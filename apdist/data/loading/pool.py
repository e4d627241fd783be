"""Who reads and decodes: threads of this process, or processes with threads of their own.

Threads are simple, but wait for the interpreter's lock whenever the training loop computes in
Python; processes do not.
"""

import itertools
import logging
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import send_handle
from typing import Any, Protocol

from apdist.data.child_signals import starting_children
from apdist.data.loading.buffers import Buffer
from apdist.data.loading.decoding import Task, TaskResult
from apdist.data.loading.loader_process import (
    BEGIN,
    WARNING,
    Loader,
    LoaderError,
    NewBuffer,
    Settings,
    Submission,
)

logger = logging.getLogger(__name__)

_LONGEST_END_S = 2.0


class Pool(Protocol):
    """Fills parts of buffers."""

    def submit(self, task: Task, buffer: Buffer, start: int) -> "Future[TaskResult]":
        """Fill ``buffer`` from image ``start`` on."""

    def close(self) -> None:
        """End threads or processes; what was asked for and not begun is dropped."""


class Threads:
    """Loaders that are threads of this process."""

    def __init__(self, settings: Settings) -> None:
        self.loader = Loader(settings)

    def submit(self, task: Task, buffer: Buffer, start: int) -> "Future[TaskResult]":
        """Fill ``buffer`` from image ``start`` on."""
        out = buffer.images[start : start + len(task.request)]
        return self.loader.submit(task, out)

    def close(self) -> None:
        """End the threads."""
        self.loader.close()


class Processes:
    """Loaders that are processes; one that dies is an error, not a hang."""

    def __init__(self, number: int, settings: Settings) -> None:
        self.waiting: list[dict[int, Future[TaskResult]]] = [{} for _ in range(number)]
        self.shown: list[set[int]] = [set() for _ in range(number)]
        self.lock = threading.Lock()
        self.numbers = itertools.count()
        self.connections: list[Connection] = []
        self.processes = []
        for _ in range(number):
            here, there = Pipe()
            self.processes.append(_started(there.fileno()))
            there.close()  # ours: when the process dies, reading from ``here`` must end
            with suppress(OSError):  # it died at once; whoever submits will hear of it
                here.send(settings)
            self.connections.append(here)
        self.listener = threading.Thread(target=self._listen, name="loaders", daemon=True)
        self.listener.start()

    def submit(self, task: Task, buffer: Buffer, start: int) -> "Future[TaskResult]":
        """Fill ``buffer`` from image ``start`` on, by the process with the least to do."""
        future: Future[TaskResult] = Future()
        number = next(self.numbers)
        with self.lock:
            place = min(range(len(self.waiting)), key=lambda p: len(self.waiting[p]))
            self.waiting[place][number] = future
        try:
            self._show(buffer, place)
            self.connections[place].send(Submission(number, task, buffer.number, start))
        except OSError:
            self._fail(place)
        return future

    def close(self) -> None:
        """End the processes: they go when their connection does."""
        for connection in self.connections:
            try:
                connection.send(None)
            except OSError:
                continue
        for process in self.processes:
            try:
                process.wait(_LONGEST_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.listener.join()
        for connection in self.connections:
            connection.close()

    def _show(self, buffer: Buffer, place: int) -> None:
        """Give a process its view of a buffer, once."""
        if buffer.number not in self.shown[place]:
            self.shown[place].add(buffer.number)
            self.connections[place].send(NewBuffer(buffer.number, buffer.shape))
            send_handle(self.connections[place], buffer.descriptor, self.processes[place].pid)

    def _listen(self) -> None:
        """Hand answers to those who wait, until all processes are gone."""
        places = {connection: place for place, connection in enumerate(self.connections)}
        while places:
            for ready in wait(list(places)):
                assert isinstance(ready, Connection)
                place = places[ready]
                try:
                    number, answer = ready.recv()
                except (EOFError, OSError):
                    del places[ready]
                    self._fail(place)
                    continue
                if number == WARNING:
                    logger.warning("%s", answer)
                    continue
                with self.lock:
                    future = self.waiting[place].pop(number)
                _settle(future, answer)

    def _fail(self, place: int) -> None:
        with self.lock:
            lost, self.waiting[place] = self.waiting[place], {}
        for future in lost.values():
            _settle(
                future,
                LoaderError(
                    "a loader process ended unexpectedly, perhaps killed for lack of memory; "
                    "use fewer --data.loader-processes or less --data.read-ahead-mib"
                ),
            )


def _started(descriptor: int) -> subprocess.Popen[bytes]:
    """A loader process that talks by ``descriptor``.

    Not by multiprocessing: its fork of a process that holds threads can deadlock, and its spawn
    imports the parent's main module again, Ray and torch with it.
    """
    program = BEGIN.format(path=sys.path, descriptor=descriptor)
    with starting_children():
        return subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=[descriptor]
        )


def _settle(future: "Future[TaskResult]", answer: Any) -> None:
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def new_pool(num_processes: int, settings: Settings) -> Pool:
    """Loaders, ready to work; 0 processes: threads of this one."""
    return Processes(num_processes, settings) if num_processes else Threads(settings)
