"""Batches on the device: while one is computed with, the next is on its way there.

A thread copies a batch into page-locked memory, from which the device fetches it by itself, on a
stream of its own. Two such places take turns; events say when each may be written and read.

Shapes: b images of this worker, s side of the crop in pixels.
"""

import queue
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from apdist.data.loading.stream import Batch

NUM_PLACES = 2
_LONGEST_END_S = 10.0


class Streams(Protocol):
    """What a device offers for copies: two queues of work, and events that order them."""

    copying: Any
    """The queue of the copies."""

    @property
    def computing(self) -> Any:
        """The queue of the step."""

    def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Page-locked memory of the host, and the device's, for such a tensor."""

    def event(self) -> Any:
        """An event that has not been recorded; nobody waits for such a one."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Have the device fetch ``source``, in the queue of the copies."""

    def record(self, event: Any, work: Any) -> None:
        """Let ``event`` be the end of what is in the queue ``work`` now."""

    def wait(self, event: Any, work: Any) -> None:
        """Let what comes into the queue ``work`` from now on wait for ``event``."""

    def synchronize(self, event: Any) -> None:
        """Wait here for ``event``."""


class CudaStreams:
    """A CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.copying = device, torch.cuda.Stream(device)

    @property
    def computing(self) -> torch.cuda.Stream:
        """The stream of the step."""
        return torch.cuda.current_stream(self.device)

    def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Page-locked memory of the host, and the device's, for such a tensor."""
        with torch.cuda.stream(self.copying):  # also in a thread whose device is another one
            host = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            return host, torch.empty(like.shape, dtype=like.dtype, device=self.device)

    def event(self) -> torch.cuda.Event:
        """An event that has not been recorded; nobody waits for such a one."""
        return torch.cuda.Event()

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Have the device fetch ``source``, in the stream of the copies."""
        with torch.cuda.stream(self.copying):
            target.copy_(source, non_blocking=True)

    def record(self, event: torch.cuda.Event, work: torch.cuda.Stream) -> None:
        """Let ``event`` be the end of what is in the stream ``work`` now."""
        event.record(work)

    def wait(self, event: torch.cuda.Event, work: torch.cuda.Stream) -> None:
        """Let what comes into the stream ``work`` from now on wait for ``event``."""
        work.wait_event(event)

    def synchronize(self, event: torch.cuda.Event) -> None:
        """Wait here for ``event``."""
        event.synchronize()


@dataclass
class _Place:
    """Room for a batch: (host, device) for its images and for its labels."""

    images: tuple[Tensor, Tensor]
    labels: tuple[Tensor, Tensor]
    sent: Any
    """The device has fetched it."""
    used: Any
    """The device has computed with it."""


def on_device(
    batches: Generator[Batch, None, None], device: torch.device
) -> Generator[Batch, None, None]:
    """``batches`` with their tensors on ``device``, each valid until the next one is taken."""
    return prefetch(batches, CudaStreams(device)) if device.type == "cuda" else batches


def prefetch(
    batches: Generator[Batch, None, None], streams: Streams
) -> Generator[Batch, None, None]:
    """``batches`` by way of ``streams``; their ``waited_s`` is what the caller waited.

    Raises:
        Exception: whatever ``batches`` raises.
    """
    free: queue.SimpleQueue[_Place | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[Batch, _Place] | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()
    for _ in range(NUM_PLACES):
        free.put(None)  # made when its shape is known

    def send() -> None:
        try:
            with closing(batches):
                for batch in batches:
                    place = free.get() or _new_place(streams, batch)
                    if left.is_set():
                        return
                    _send(batch, place, streams)
                    ready.put((batch, place))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=send, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            asked = time.perf_counter()
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            batch, place = item
            streams.wait(place.sent, streams.computing)
            figures = replace(batch.figures, waited_s=time.perf_counter() - asked)
            yield Batch(batch.step, place.images[1], place.labels[1], figures)
            streams.record(place.used, streams.computing)
            free.put(place)
    finally:
        left.set()
        free.put(None)
        thread.join(_LONGEST_END_S)  # it may wait for a read, and ends with it


def _new_place(streams: Streams, batch: Batch) -> _Place:
    return _Place(
        streams.memory(batch.images), streams.memory(batch.labels), streams.event(), streams.event()
    )


def _send(batch: Batch, place: _Place, streams: Streams) -> None:
    streams.synchronize(place.sent)  # or the device could fetch half of this batch as the last one
    streams.wait(place.used, streams.copying)
    for value, (host, there) in ((batch.images, place.images), (batch.labels, place.labels)):
        host.copy_(value)
        streams.copy(there, host)
    streams.record(place.sent, streams.copying)
