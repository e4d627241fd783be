"""Figures of the stream, and why the training waits for it."""

import dataclasses
import os
from collections import deque
from dataclasses import dataclass

from apdist.config import DataConfig
from apdist.data import storage
from apdist.data.loading.decoding import TaskResult

_STEPS_LOOKED_AT = 10
_TOLERABLE_SHARE = 0.2
_BUSY_SHARE = 0.7
"""Of the time of all decoding threads, from which on decoding is the bottleneck."""


@dataclass(frozen=True)
class StreamFigures:
    """One worker's part of a step."""

    num_images: int
    num_bytes: int
    """Encoded bytes read."""
    read_s: float
    """Spent reading, by all loaders together."""
    decode_s: float
    """Spent decoding and augmenting, by all loaders together."""
    waited_s: float
    """That the training waited for this batch."""
    num_ready: int
    """Steps that lay ready when this one was taken."""
    num_retries: int
    num_replaced: int
    num_hits: int
    num_misses: int


def figures_of(
    parts: list[TaskResult], *, waited_s: float, num_ready: int, num_replaced: int
) -> StreamFigures:
    """The sum of what the loaders did for a step."""
    return StreamFigures(
        num_images=sum(part.num_images for part in parts),
        num_bytes=sum(part.num_bytes for part in parts),
        read_s=sum(part.read_s for part in parts),
        decode_s=sum(part.decode_s for part in parts),
        waited_s=waited_s,
        num_ready=num_ready,
        num_retries=sum(part.num_retries for part in parts),
        num_replaced=num_replaced,
        num_hits=sum(part.num_hits for part in parts),
        num_misses=sum(part.num_misses for part in parts),
    )


def total(parts: list[StreamFigures]) -> StreamFigures:
    """Several batches that make one step."""
    sums = {
        field.name: sum(getattr(part, field.name) for part in parts)
        for field in dataclasses.fields(StreamFigures)
    }
    return StreamFigures(**sums | {"num_ready": min(part.num_ready for part in parts)})


class Waiting:
    """Watches how long steps wait for their images, and says once why."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.recent: deque[tuple[StreamFigures, float]] = deque(maxlen=_STEPS_LOOKED_AT)
        self.told = False

    def note(self, figures: StreamFigures, step_s: float) -> str:
        """Count a step of ``step_s`` seconds; a warning if the last ones waited, or nothing."""
        self.recent.append((figures, step_s))
        if self.told or len(self.recent) < _STEPS_LOOKED_AT:
            return ""
        waited = sum(figures.waited_s for figures, _ in self.recent)
        share = waited / max(1e-9, sum(seconds for _, seconds in self.recent))
        if share < _TOLERABLE_SHARE:
            return ""
        self.told = True
        return f"{share:.0%} of the time the training waits for images: {self._reason()}"

    def _reason(self) -> str:
        config = self.config
        loaders = max(1, config.loader_processes)
        decode_s = sum(figures.decode_s for figures, _ in self.recent)
        time_s = sum(seconds for _, seconds in self.recent) * loaders * config.loader_threads
        if any(figures.num_retries for figures, _ in self.recent):
            return "reads fail and are tried again; look at the network and the server"
        if decode_s < _BUSY_SHARE * time_s:
            is_near = config.cache_dir or storage.local_path(config.shards) is not None
            cache = "" if is_near else ", or keep shards on disk with --data.cache-dir"
            return (
                f"loaders wait for bytes; try --data.loader-reads {2 * config.loader_reads}{cache}"
            )
        if loaders < (os.cpu_count() or 1):
            return (
                "decoding takes most of it and CPUs are left; "
                f"try --data.loader-processes {2 * loaders}"
            )
        return (
            "decoding takes all CPUs; store smaller images (apdist prepare --max-side), or reserve "
            "more of them"
        )
