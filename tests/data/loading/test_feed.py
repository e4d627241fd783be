"""The feed against a device that does its work as late, or as early, as events allow."""

import threading
import time
from collections.abc import Generator

import pytest
import torch
from torch import Tensor

from apdist.data.loading.feed import CudaStreams, on_device, send_small, stage
from tests.late_device import LateStreams, PromptStreams

NUM_PARTS, SHAPE = 9, (4, 3, 2, 2)


def parts(
    log: list[str], number: int = NUM_PARTS, last: int = 4
) -> Generator[tuple[int, Tensor], None, None]:
    """In memory that is used again; the last one is smaller."""
    images = torch.empty(SHAPE, dtype=torch.uint8)
    try:
        for part in range(number):
            images.fill_(part)
            log.append(f"read {part}")
            yield part, images[: last if part == number - 1 else None]
            images.fill_(253)
    finally:
        log.append(f"closed by {threading.current_thread().name}")


@pytest.mark.parametrize("favourite", ["copying", "computing"])
@pytest.mark.parametrize("last", [4, 1])
def test_what_is_computed_with_is_what_was_read(favourite: str, last: int) -> None:
    streams, log = LateStreams(favourite), list[str]()
    seen, names = list[Tensor](), list[int]()
    for name, images in stage(parts(log, last=last), streams):
        names.append(name)
        streams.add(streams.computing, lambda images=images: seen.append(images.clone()))
    streams.finish()
    assert names == list(range(NUM_PARTS))
    assert [images.unique().tolist() for images in seen] == [[name] for name in names]
    assert [len(images) for images in seen] == [4] * (NUM_PARTS - 1) + [last]
    assert log[-1] == "closed by feed"
    assert len(streams.held) == 2


def test_a_part_that_is_larger_gets_room() -> None:
    def growing() -> Generator[tuple[int, Tensor], None, None]:
        for size in (1, 2, 5, 3):
            yield size, torch.full((size, 3), size)

    streams, seen = LateStreams("copying"), list[Tensor]()
    for _, images in stage(growing(), streams):
        streams.add(streams.computing, lambda images=images: seen.append(images.clone()))
    streams.finish()
    assert [images[:, 0].tolist() for images in seen] == [[1], [2] * 2, [5] * 5, [3] * 3]


def test_the_next_part_is_sent_while_one_is_computed_with() -> None:
    log: list[str] = []
    stream = stage(parts(log), LateStreams("copying"))
    assert next(stream)[0] == 0
    deadline = time.monotonic() + 5
    while "read 2" not in log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "read 2" in log  # 1 is sent, 2 waits for the buffer of 0
    time.sleep(0.05)
    assert "read 3" not in log
    stream.close()
    assert log[-1] == "closed by feed"


def test_nothing_lands_in_memory_that_was_given_back() -> None:
    streams = LateStreams("computing")
    stream = stage(parts([]), streams)
    next(stream)
    stream.close()
    sent_before = list[bool]()
    streams.add(streams.computing, lambda: sent_before.append(not streams.copying.entries))
    streams.finish()
    assert sent_before == [True]


def test_memory_that_is_still_computed_with_is_not_written_over() -> None:
    class Reused(LateStreams):
        """Gives memory that its queue has yet to compute with."""

        def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
            host, there = super().memory(like)
            self.add(self.computing, lambda: seen.append(there.clone()))
            return host, there

    seen, streams = list[Tensor](), Reused("copying")
    for _ in stage(parts([], 2), streams):
        pass
    streams.finish()
    assert [images.unique().tolist() for images in seen] == [[254], [254]]


def test_an_error_of_the_parts_is_raised_after_what_came_before() -> None:
    def failing() -> Generator[tuple[int, Tensor], None, None]:
        yield from parts([], 2)
        raise ValueError("image 7 is corrupt")

    stream = stage(failing(), LateStreams("copying"))
    assert [next(stream)[0], next(stream)[0]] == [0, 1]
    with pytest.raises(ValueError, match="image 7 is corrupt"):
        next(stream)


def test_a_device_that_does_everything_at_once_gives_the_same() -> None:
    stream = stage(parts([]), PromptStreams())
    assert [images.unique().tolist() for _, images in stream] == [[n] for n in range(NUM_PARTS)]


def test_on_a_cpu_nothing_is_copied() -> None:
    log, addresses = list[str](), set[int]()
    for _, images in on_device(parts(log), torch.device("cpu")):
        addresses.add(images.data_ptr())
    assert len(addresses) == 1
    assert log[-1] == "closed by MainThread"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_what_is_computed_with_is_what_was_read() -> None:
    device, sums = torch.device("cuda"), []
    for name, images in stage(parts([]), CudaStreams(device)):
        torch.cuda._sleep(10_000_000)
        sums.append((name, images.long().sum(), send_small(torch.tensor([name]), device)))
    for name, total, value in sums:
        assert total.item() == 48 * name
        assert value.item() == name
