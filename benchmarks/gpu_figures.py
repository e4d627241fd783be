"""What the checks of gpu.py share: where they run, how they time, what they report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Figure:
    """Something measured."""

    check: str
    case: dict[str, Any]
    found: dict[str, Any]


class Setting:
    """A GPU, or a CPU that stands in for one."""

    def __init__(self, dry: bool) -> None:
        self.dry = dry
        self.device = torch.device("cpu" if dry else "cuda")

    def finish(self) -> None:
        """Wait for what the GPU has been given."""
        if not self.dry:
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Give unused memory back."""
        if not self.dry:
            torch.cuda.empty_cache()

    def median_ms(self, work: Callable[[], object], repeats: int = 5, warm: int = 1) -> float:
        """Median wall time of ``work`` in milliseconds, the device finished."""
        for _ in range(0 if self.dry else warm):
            work()
        self.finish()
        times = []
        for _ in range(1 if self.dry else repeats):
            start = time.perf_counter()
            work()
            self.finish()
            times.append((time.perf_counter() - start) * 1e3)
        return sorted(times)[len(times) // 2]

    def peak_mib(self, work: Callable[[], object]) -> int:
        """Peak of the GPU's memory during ``work`` above that before it."""
        if self.dry:
            work()
            return 0
        self.finish()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self.finish()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20)

    def batch(
        self, num_images: int, size: int, per_class: int = 4, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(n, d) unit vectors, those of a class alike, and their labels (n,)."""
        generator = torch.Generator(device=self.device).manual_seed(seed)

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=self.device)

        labels = torch.arange(num_images, device=self.device) // per_class
        # Long vectors are nearly orthogonal: less signal keeps the loss away from 0.
        signal = 0.6 if size < 512 else 0.45 if size < 2048 else 0.3
        rows = noise(num_images // per_class + 1, size)[labels] * signal
        return normalize(rows.add_(noise(num_images, size)), dim=1), labels


@dataclass(frozen=True)
class Check:
    """Some figures, and the seconds that they may take."""

    name: str
    seconds: float
    work: Callable[[Setting], Iterator[Figure]]
