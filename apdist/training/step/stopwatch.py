"""Times of stages, measured on the device itself: nobody waits for it before the end."""

import time
from typing import Any

import torch


class Stopwatch:
    """Seconds of the stages of some work on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[Any] = [self._now()]

    def lap(self) -> None:
        """End a stage."""
        self._marks.append(self._now())

    def laps(self) -> list[float]:
        """Seconds of each stage; waits for the end of the last."""
        before, after = self._marks[:-1], self._marks[1:]
        if self._on_gpu:
            after[-1].synchronize()
            return [a.elapsed_time(b) / 1e3 for a, b in zip(before, after, strict=True)]
        return [b - a for a, b in zip(before, after, strict=True)]

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
