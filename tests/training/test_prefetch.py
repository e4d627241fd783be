"""The feed against a device that does its work as late, or as early, as events allow."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields

import pytest
import torch
from torch import Tensor

from apdist.data.loading.stream import Batch
from apdist.data.loading.telemetry import StreamFigures
from apdist.training.prefetch import CudaStreams, on_device, prefetch

NUM_BATCHES, SHAPE = 9, (4, 3, 2, 2)


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
        self.lock = threading.RLock()

    def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(like), torch.empty_like(like)

    def event(self) -> Event:
        return Event()

    def copy(self, target: Tensor, source: Tensor) -> None:
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


def figures(waited_s: float = 0.0) -> StreamFigures:
    return StreamFigures(**dict.fromkeys([f.name for f in fields(StreamFigures)], 0))


def batches(log: list[str], number: int = NUM_BATCHES) -> Generator[Batch, None, None]:
    """As the stream gives them: in memory that is used again."""
    images = torch.empty(SHAPE, dtype=torch.uint8)
    try:
        for step in range(number):
            images.fill_(step)
            log.append(f"read {step}")
            yield Batch(step, images, torch.full((4,), step), figures())
            images.fill_(255)
    finally:
        log.append(f"closed by {threading.current_thread().name}")


@pytest.mark.parametrize("favourite", ["copying", "computing"])
def test_what_is_computed_with_is_what_was_read(favourite: str) -> None:
    streams, log = LateStreams(favourite), list[str]()
    seen: list[tuple[Tensor, Tensor]] = []

    def look(batch: Batch) -> None:
        seen.append((batch.images.clone(), batch.labels.clone()))

    steps = []
    for batch in prefetch(batches(log), streams):
        steps.append(batch.step)
        streams.add(streams.computing, lambda batch=batch: look(batch))
    streams.finish()
    assert steps == list(range(NUM_BATCHES))
    for step, (images, labels) in enumerate(seen):
        assert images.unique().tolist() == [step]
        assert labels.unique().tolist() == [step]
    assert len(seen) == NUM_BATCHES
    assert log[-1] == "closed by prefetch"


def test_the_next_batches_are_sent_while_one_is_computed_with() -> None:
    log: list[str] = []
    stream = prefetch(batches(log), LateStreams("copying"))
    assert next(stream).step == 0
    deadline = time.monotonic() + 5
    while "read 2" not in log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "read 2" in log  # 1 is sent, 2 waits for the place of 0
    time.sleep(0.05)
    assert "read 3" not in log
    stream.close()
    assert log[-1] == "closed by prefetch"


def test_an_error_of_the_stream_is_raised_after_what_came_before() -> None:
    def failing() -> Generator[Batch, None, None]:
        yield from batches([], 2)
        raise ValueError("image 7 is corrupt")

    stream = prefetch(failing(), LateStreams("copying"))
    assert [next(stream).step, next(stream).step] == [0, 1]
    with pytest.raises(ValueError, match="image 7 is corrupt"):
        next(stream)


def test_waiting_is_measured_where_it_hurts() -> None:
    def slow() -> Generator[Batch, None, None]:
        for batch in batches([], 2):
            time.sleep(0.1)
            yield batch

    stream = prefetch(slow(), LateStreams("copying"))
    assert 0.05 < next(stream).figures.waited_s < 5
    time.sleep(0.3)  # the device computes
    assert next(stream).figures.waited_s < 0.05


def test_on_a_cpu_nothing_is_copied() -> None:
    stream = batches([])
    assert on_device(stream, torch.device("cpu")) is stream


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_what_is_computed_with_is_what_was_read() -> None:
    device, sums = torch.device("cuda"), []
    for batch in prefetch(batches([]), CudaStreams(device)):
        torch.cuda._sleep(10_000_000)
        sums.append((batch.images.long().sum(), batch.labels.sum()))
    for step, (images, labels) in enumerate(sums):
        assert images.item() == 48 * step
        assert labels.item() == 4 * step
