"""Times of stages; a GPU has done its work before the watch is read."""

import time

import torch


class Stopwatch:
    """Seconds of the stages of some work on ``device``, in ``laps``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: list[float] = []
        self._last = self._now()

    def lap(self) -> None:
        """End a stage."""
        before, self._last = self._last, self._now()
        self.laps.append(self._last - before)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
