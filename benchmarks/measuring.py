"""Time and memory of a piece of work, on the CPU or on a GPU."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Seconds:
    """The fastest run, on the clock and in processor time."""

    wall: float
    cpu: float

    def times(self, factor: float) -> Seconds:
        """What ``factor`` such runs take."""
        return Seconds(self.wall * factor, self.cpu * factor)


def fastest(works: dict[str, Work], repeats: int, device: torch.device) -> dict[str, Seconds]:
    """Best of several rounds."""
    return {
        name: Seconds(min(run.wall for run in runs), min(run.cpu for run in runs))
        for name, runs in timed_rounds(works, repeats, device).items()
    }


def timed_rounds(
    works: dict[str, Work], repeats: int, device: torch.device
) -> dict[str, list[Seconds]]:
    """Each work's runs; in a round every work runs once, so that all meet the same machine."""
    rounds: dict[str, list[Seconds]] = {name: [] for name in works}
    finish(device)
    for _ in range(repeats):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            finish(device)
            spent = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
            rounds[name].append(spent)
    return rounds


def finish(device: torch.device) -> None:
    """Wait for what a GPU has been given: its work is only put in a queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def grown_mib(work: Work, device: torch.device) -> float:
    """How far the memory of the process or of its GPU grows above that before ``work``."""
    gc.collect()
    if device.type == "cuda":
        return grown_mib_of_gpu(work, device)
    with peak_memory() as peak:
        work()
    return peak[0]


def grown_mib_of_gpu(work: Work, device: torch.device) -> float:
    finish(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    finish(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Growth of the resident set in MiB, sampled every millisecond, in the list's one entry."""
    before, peak, done = resident_mib(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident_mib() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def resident_mib() -> float:
    """MiB of this process in memory; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
