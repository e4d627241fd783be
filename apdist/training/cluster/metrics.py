"""The figures of a run as metrics of Ray: in its dashboard, and where Prometheus asks its nodes."""

from __future__ import annotations

import logging
from typing import Any

from apdist.training.events import Evaluated, Event, Restarted, StepDone

logger = logging.getLogger(__name__)

GAUGES = {
    "apdist_step": ("Steps done.",),
    "apdist_loss": ("Training loss of the newest step.",),
    "apdist_images_per_second": ("Images trained on per second, in the newest step.",),
    "apdist_map": ("Mean average precision at the newest evaluation of a split.", "split"),
}
"""By name: what it is, and its tags beside `run`."""
RESTARTS = "apdist_restarts"
"""A counter; Prometheus shows it with `_total` behind."""


class RayMetrics:
    """Hands the figures of a run to the Ray that this process has joined; a listener of `watch`.

    What goes wrong with them costs a warning, and never a training.

    Args:
        run: the value of the tag `run`.
    """

    def __init__(self, run: str) -> None:
        self.run = run.encode("ascii", "backslashreplace").decode()  # Ray takes no other text
        self._metrics: dict[str, Any] = {}
        self._is_off = False

    def __call__(self, event: Event) -> None:
        """Set what ``event`` tells."""
        if self._is_off:
            return
        try:
            self._post(event)
        except Exception as error:  # whatever it is: these are extras
            self._is_off = True
            logger.warning("the figures are not in Ray's metrics any more (%s)", error)

    def _post(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self._set("apdist_step", event.step)
            self._set("apdist_loss", event.figures.get("loss"))
            self._set("apdist_images_per_second", event.figures.get("images_per_s"))
        elif isinstance(event, Evaluated):
            self._set("apdist_map", event.figures.get("map"), split=event.split)
        elif isinstance(event, Restarted) and (metrics := self._of_ray()):
            metrics[RESTARTS].inc(tags={"run": self.run})

    def _set(self, name: str, value: float | None, **tags: str) -> None:
        if value is not None and (metrics := self._of_ray()):
            metrics[name].set(value, tags={"run": self.run, **tags})

    def _of_ray(self) -> dict[str, Any]:
        """Its metrics, made when they are needed first; none where the training runs without it."""
        import ray

        if not self._metrics and ray.is_initialized():
            from ray.util.metrics import Counter, Gauge

            self._metrics = {
                name: Gauge(name, text, ("run", *tags)) for name, (text, *tags) in GAUGES.items()
            }
            self._metrics[RESTARTS] = Counter(RESTARTS, "Restarts of the workers.", ("run",))
        return self._metrics
