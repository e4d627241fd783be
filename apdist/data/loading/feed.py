"""Images to the device, part by part: while one is computed with, the next is on its way there.

The whole batch stays in the host's memory. A thread copies a part into page-locked memory, from
which the device fetches it by itself, on a stream of its own. Two such places take turns, whatever
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
NUM_PLACES = 2
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
class _Place:
    """Room for a part in page-locked memory and on the device."""

    host: Tensor
    there: Tensor
    sent: Any
    """The device has fetched it."""
    used: Any
    """The device has computed with it."""


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
        yield from sent(parts, streams)
        return
    with closing(parts):
        for name, images in parts:
            yield name, images.to(device)


def sent_whole(values: Tensor, device: torch.device) -> Tensor:
    """A few ``values`` on ``device``; nobody waits for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def streams_of(device: torch.device) -> Streams | None:
    """How ``device`` copies beside what it computes; None: it does not."""
    return CudaStreams(device) if device.type == "cuda" else None


def sent(
    parts: Generator[tuple[T, Tensor], None, None], streams: Streams
) -> Generator[tuple[T, Tensor], None, None]:
    """``parts`` by way of ``streams``.

    Raises:
        Exception: whatever ``parts`` raises.
    """
    free: queue.SimpleQueue[_Place | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[T, Tensor, _Place] | BaseException | None] = queue.SimpleQueue()
    left, places = threading.Event(), list[_Place]()
    for _ in range(NUM_PLACES):
        free.put(None)  # made when its shape is known

    def send() -> None:
        try:
            with closing(parts):
                for name, images in parts:
                    place = free.get()
                    if left.is_set():
                        return
                    if place is None or not _has_room(place, images):
                        places.append(place := _new_place(images, streams))
                    _send(images, place, streams)
                    ready.put((name, place.there[: len(images)], place))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=send, name="feed", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            name, images, place = item
            streams.wait(place.sent, streams.computing)
            yield name, images
            streams.record(place.used, streams.computing)
            free.put(place)
    finally:
        left.set()
        free.put(None)
        thread.join(_LONGEST_END_S)  # it may wait for a read, and ends with it
        for place in places:  # what is left in flight must not land in memory of other use
            streams.wait(place.sent, streams.computing)


def _has_room(place: _Place, images: Tensor) -> bool:
    held = place.host[: len(images)]
    return held.shape == images.shape and held.dtype == images.dtype


def _new_place(images: Tensor, streams: Streams) -> _Place:
    place = _Place(*streams.memory(images), streams.event(), streams.event())
    streams.record(place.used, streams.computing)  # by what had this memory before
    return place


def _send(images: Tensor, place: _Place, streams: Streams) -> None:
    number = len(images)
    streams.synchronize(place.sent)  # or the device could fetch half of these as the last ones
    streams.wait(place.used, streams.copying)
    place.host[:number].copy_(images)
    streams.copy(place.there[:number], place.host[:number])
    streams.record(place.sent, streams.copying)
