"""Everything behind the routes of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apdist.retrieval.querying.results import told_score
from apdist.serving.answers import Result, plain
from apdist.serving.decoding import DecodingRoom
from apdist.serving.limits import Admission, Limits
from apdist.serving.metrics import Metrics
from apdist.serving.reload import Current
from apdist.serving.searching import Searcher
from apdist.serving.snapshot import WHERE_BYTES_LIE, Snapshot
from apdist.serving.thumbnails import ThumbnailCache

_OWN = ("number", "query", "rank", "score")


@dataclass(kw_only=True)
class Service:
    """Everything behind the routes."""

    current: Current
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    batch_size: int = 32
    wait_s: float = 0.004

    def __post_init__(self) -> None:
        self.room = DecodingRoom(self.limits.pixels)
        self.searcher = Searcher(
            self.limits, self.metrics, self.room, most=self.batch_size, wait_s=self.wait_s
        )
        self.admission = Admission(self.limits)
        self.thumbnails = ThumbnailCache()
        self.num_pictures, self.is_stopping = 0, False
        gauge = self.metrics.gauge
        gauge(
            "queue_length",
            "Searches that are in no batch yet.",
            lambda: self.searcher.batcher.num_waiting,
        )
        gauge("searches", "Searches under way.", lambda: self.admission.num_requests)
        gauge("upload_bytes", "Bytes of uploads in memory.", lambda: self.admission.num_bytes)
        gauge("index_images", "Images of the index.", lambda: len(self.current.snapshot))

    @property
    def is_ready(self) -> bool:
        """Whether searches are answered."""
        return not self.is_stopping and self.searcher.batcher.is_alive

    def close(self) -> None:
        """End the threads."""
        self.is_stopping = True
        self.current.stop()
        self.searcher.close()


def result_of(snapshot: Snapshot, found: dict[str, Any]) -> Result:
    """A result as it is answered."""
    label = found.get(snapshot.label_column)
    return Result(
        rank=found["rank"],
        score=told_score(found["score"]),
        key=str(found.get("key", "")),
        label="" if label is None else str(label),
        entry={
            name: plain(value)
            for name, value in found.items()
            if name not in _OWN and name not in WHERE_BYTES_LIE
        },
    )
