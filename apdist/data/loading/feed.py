"""Images to the device, part by part: while one is computed with, the next is on its way there.

The whole batch stays in the host's memory. A thread copies a part into page-locked memory, from
which the device fetches it by itself, on a stream of its own. Two such buffers take turns, whatever
the size of the batch; events say when each may be written and read.

Shapes: c images in a part, s side of the crop in pixels.
"""

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
NUM_BUFFERS = 2
_LONGEST_END_S = 10.0


class Streams(Protocol):
    """What a device offers for copies: two queues of work, and events that order them."""

    copying: Any
    """The queue of the copies."""
    computing: Any
    """The queue of what is computed with the images."""

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
    """A CUDA device; it computes in the stream that is current where this is made."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.copying = device, torch.cuda.Stream(device)
        self.computing = torch.cuda.current_stream(device)

    def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Page-locked memory of the host, and the device's, for such a tensor."""
        # The allocator gives it to what is computed afterwards, so it must know that stream.
        with torch.cuda.stream(self.computing):
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
class _StagingBuffer:
    """Memory that a part passes through: page-locked on the host, and on the device."""

    host: Tensor
    device: Tensor
    fetched: Any
    """Event: the device has fetched the part, so that ``host`` may be written again."""
    consumed: Any
    """Event: the device has computed with the part, so that ``device`` may be written again."""


def on_device(
    parts: Generator[tuple[T, Tensor], None, None], device: torch.device
) -> Generator[tuple[T, Tensor], None, None]:
    """``parts`` with their images on ``device``, each valid until the next one is taken.

    Args:
        parts: something, and images (c, 3, s, s) in host memory or there already. They are taken in
            another thread, one part ahead.
        device: a CUDA device has each part sent while it computes with the one before.

    Raises:
        Exception: whatever ``parts`` raises.
    """
    if (streams := streams_of(device)) is not None:
        yield from stage(parts, streams)
        return
    with closing(parts):
        for name, images in parts:
            yield name, images.to(device)


def send_small(values: Tensor, device: torch.device) -> Tensor:
    """A few ``values`` on ``device``, by one copy that nobody waits for."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def streams_of(device: torch.device) -> Streams | None:
    """How ``device`` copies beside what it computes; None: it does not."""
    return CudaStreams(device) if device.type == "cuda" else None


def stage(
    parts: Generator[tuple[T, Tensor], None, None], streams: Streams
) -> Generator[tuple[T, Tensor], None, None]:
    """``parts``, copied to the device by a thread, through two buffers that take turns.

    Raises:
        Exception: whatever ``parts`` raises.
    """
    free: queue.SimpleQueue[_StagingBuffer | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[T, Tensor, _StagingBuffer] | BaseException | None] = (
        queue.SimpleQueue()
    )
    left, buffers = threading.Event(), list[_StagingBuffer]()
    for _ in range(NUM_BUFFERS):
        free.put(None)  # made when its shape is known

    def send() -> None:
        try:
            with closing(parts):
                for name, images in parts:
                    buffer = free.get()
                    if left.is_set():
                        return
                    if buffer is None or not _has_room(buffer, images):
                        buffers.append(buffer := _new_buffer(images, streams))
                    _send(images, buffer, streams)
                    ready.put((name, buffer.device[: len(images)], buffer))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=send, name="feed", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            name, images, buffer = item
            streams.wait(buffer.fetched, streams.computing)
            yield name, images
            streams.record(buffer.consumed, streams.computing)
            free.put(buffer)
    finally:
        left.set()
        free.put(None)
        thread.join(_LONGEST_END_S)  # it may wait for a read, and ends with it
        for buffer in buffers:  # what is left in flight must not land in memory of other use
            streams.wait(buffer.fetched, streams.computing)


def _has_room(buffer: _StagingBuffer, images: Tensor) -> bool:
    held = buffer.host[: len(images)]
    return held.shape == images.shape and held.dtype == images.dtype


def _new_buffer(images: Tensor, streams: Streams) -> _StagingBuffer:
    buffer = _StagingBuffer(*streams.memory(images), streams.event(), streams.event())
    streams.record(buffer.consumed, streams.computing)  # by what had this memory before
    return buffer


def _send(images: Tensor, buffer: _StagingBuffer, streams: Streams) -> None:
    number = len(images)
    streams.synchronize(buffer.fetched)  # or the device could fetch half of these as the last ones
    streams.wait(buffer.consumed, streams.copying)
    buffer.host[:number].copy_(images)
    streams.copy(buffer.device[:number], buffer.host[:number])
    streams.record(buffer.fetched, streams.copying)
