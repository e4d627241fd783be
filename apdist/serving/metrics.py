"""Figures of a server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What a server counts; each has figures of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "apdist_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "apdist_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "apdist_batch_size",
            "Searches that were worked on together.",
            buckets=_SIZES,
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "apdist_batch_seconds",
            "Seconds that a batch took.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._reloads = Counter(
            "apdist_index_reloads",
            "Times that the index was read again.",
            ["outcome"],
            registry=registry,
        )

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show a figure that is asked for when it is shown."""
        Gauge(f"apdist_{name}", about, registry=self._registry).set_function(read)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(size)
        self._batch_seconds.observe(seconds)

    def reloaded(self, is_ok: bool) -> None:
        """Count an index that was read again, or could not be."""
        self._reloads.labels("done" if is_ok else "failed").inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
