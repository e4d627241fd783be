"""A device that does its work as late, or as early, as events allow."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from apdist.data.loading import feed
from apdist.training.step import passes


@dataclass(eq=False)
class Event:
    due: int = 0
    """Times it was recorded."""
    done: int = 0
    """Records that the device has come to."""


@dataclass(eq=False)
class Work:
    """A queue of a device: an entry is what it waits for, and what it does."""

    entries: deque[tuple[Callable[[], bool], Callable[[], None]]] = field(default_factory=deque)


class LateStreams:
    """A device that does nothing until it must; then the queue ``favourite`` first."""

    def __init__(self, favourite: str) -> None:
        self.copying, self.computing = Work(), Work()
        self.favourite = favourite
        self.held: list[int] = []
        """Bytes of each place that was asked for, page-locked and its own."""
        self.num_copies = 0
        self.lock = threading.RLock()

    def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
        self.held.append(2 * like.nbytes)
        return torch.full_like(like, 255), torch.full_like(like, 254)

    def event(self) -> Event:
        return Event()

    def copy(self, target: Tensor, source: Tensor) -> None:
        self.num_copies += 1
        self.add(self.copying, lambda: target.copy_(source))

    def add(self, work: Work, action: Callable[[], object]) -> None:
        with self.lock:
            work.entries.append((lambda: True, lambda: (action(), None)[1]))

    def record(self, event: Event, work: Work) -> None:
        with self.lock:
            event.due += 1
            number = event.due

            def reach() -> None:
                event.done = number

            work.entries.append((lambda: True, reach))

    def wait(self, event: Event, work: Work) -> None:
        with self.lock:
            number = event.due
            work.entries.append((lambda: event.done >= number, lambda: None))

    def synchronize(self, event: Event) -> None:
        with self.lock:
            number = event.due
            while event.done < number:
                assert self.advance(), "the device waits for ever"

    def finish(self) -> None:
        with self.lock:
            while self.advance():
                pass
            assert not self.copying.entries
            assert not self.computing.entries

    def advance(self) -> bool:
        both = [self.copying, self.computing]
        for work in both if self.favourite == "copying" else both[::-1]:
            if work.entries and work.entries[0][0]():
                work.entries.popleft()[1]()
                return True
        return False


class PromptStreams(LateStreams):
    """A device that does everything at once."""

    def __init__(self) -> None:
        super().__init__("copying")

    def add(self, work: Work, action: Callable[[], object]) -> None:
        action()

    def record(self, event: Event, work: Work) -> None:
        event.due = event.done = event.due + 1

    def wait(self, event: Event, work: Work) -> None:
        pass


class LateCopies(LateStreams):
    """A device that computes at once, and copies when what it computes with has to be there."""

    def __init__(self) -> None:
        super().__init__("copying")
        self.computing_thread = threading.get_ident()

    def record(self, event: Event, work: Work) -> None:
        if work is self.copying:
            super().record(event, work)
        else:
            event.due = event.done = event.due + 1

    def wait(self, event: Event, work: Work) -> None:
        if work is self.copying:
            super().wait(event, work)
        else:
            self.synchronize(event)


def travelling(monkeypatch: pytest.MonkeyPatch, device: LateStreams) -> None:
    """Let images go from the CPU to itself by way of ``device``."""
    monkeypatch.setattr(feed, "streams_of", lambda _: device)
    monkeypatch.setattr(passes, "lies_on", lambda *_: False)
