"""What the driver logs to MLflow, from a background thread and in order.

Tracking never costs a training: while the store is away everything waits, and is sent when it
answers again, at the end, by a resume or by `apdist track RUN`. A run is ended only after all of
it has arrived, so FINISHED means that nothing is missing.
"""

import logging
import shlex
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apdist.config import TrackingConfig
from apdist.data.text import without_secrets
from apdist.training.tracking.mlflow_run import IDENTITY, MlflowRun, Point, is_server

logger = logging.getLogger(__name__)

FLUSH_S = 2.0
LONGEST_PAUSE_S = 60.0
CLOSE_TIMEOUT_S = 30.0

Entry = Point | Callable[[MlflowRun], None]


class Tracker:
    """A run of MLflow that is written in the background.

    Args:
        config: store and experiment.
        name: name of the run.
        run_id: an existing run to go on with; empty: a new one.
        parent_id: the run of the sweep that this is a trial of, or empty.
        identity: by which a run is found again whose making was not answered; empty: a new one.
        must_answer: raise where a new run's store cannot be opened at all; a server that is only
            away is waited for in the background whatever this says.
        may_send: whether this process may write the run now; what it may not send waits.

    Raises:
        ValueError: the store cannot be opened; a wrong one should not wait for the end.
    """

    def __init__(
        self,
        config: TrackingConfig,
        name: str,
        *,
        run_id: str = "",
        parent_id: str = "",
        identity: str = "",
        must_answer: bool = True,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self.config, self.name, self.run_id = config, name, run_id
        self.may_send = may_send
        self._tags = {IDENTITY: identity or uuid.uuid4().hex}
        if parent_id:
            self._tags["mlflow.parentRunId"] = parent_id
        self._run: MlflowRun | None = None
        self._entries: deque[Entry] = deque()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        if config.enabled:
            self._open(refuse=must_answer and not run_id and not is_server(config.uri))
            self._thread.start()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log options; addresses are without passwords and queries, for all see them there."""
        shown = {
            name: without_secrets(value) if isinstance(value, str) else value
            for name, value in params.items()
        }
        self._add(lambda run: run.log_params(shown))

    def log_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int) -> None:
        """Log the figures of an event; a step that is there already is passed over."""
        if metrics:
            self._add(Point(metrics, step, time_ms))

    def log_file(self, path: Path) -> None:
        """Upload a file beside the run."""
        self._add(lambda run: run.log_file(path))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._add(lambda run: run.set_tag(name, value))

    def reopen(self) -> None:
        """Say that a run that had ended goes on."""
        self._add(lambda run: run.reopen())

    def delete(self) -> None:
        """Take the run away again."""
        self._add(lambda run: run.delete())

    def close(self, status: str = "FINISHED") -> bool:
        """End the run with ``status`` once all has arrived; whether it has, within a time.

        An empty status leaves it as it is.
        """
        if not self.config.enabled:
            return True
        if status:
            self._add(lambda run: run.end(status))
        self._closing.set()
        self._news.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        return not self._entries

    def where(self) -> str:
        """How a person opens this run."""
        if not self.config.uri.startswith("sqlite:"):
            return f"{without_secrets(self.config.uri)} (run {self.name})"
        return f"mlflow ui --backend-store-uri {shlex.quote(self.config.uri)}"

    def _add(self, entry: Entry) -> None:
        if self.config.enabled:
            self._entries.append(entry)

    def _work(self) -> None:
        """Send until closed and empty; after a failure wait, longer each time."""
        pause_s = FLUSH_S
        while not self._closing.is_set() or self._entries:
            self._news.wait(pause_s)
            failed = not self._send()
            if failed and self._closing.is_set():
                return  # it was away until the end; `apdist track` sends what is missing
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if failed else FLUSH_S

    def _send(self) -> bool:
        """Send all that waits, in order; whether the store took it."""
        if not self.may_send() and not self._closing.is_set():
            return True
        try:
            if self._run is None:
                self._open(refuse=False)
            while self._entries and self._run is not None:
                self._send_next(self._run)
        except Exception as error:
            self._warn(error)
            return False
        self._warned = self._warned and self._run is None
        return self._run is not None

    def _send_next(self, run: MlflowRun) -> None:
        """Send the first entry, or all points at the front; what fails stays where it is."""
        first = self._entries[0]
        if isinstance(first, Point):
            points: list[Point] = []
            for entry in list(self._entries):
                if not isinstance(entry, Point):
                    break
                points.append(entry)
            run.log_points(points)
            for _ in points:
                self._entries.popleft()
        else:
            first(run)
            self._entries.popleft()

    def _open(self, refuse: bool) -> None:
        try:
            self._run = MlflowRun(self.config, self.name, self.run_id, self._tags)
            self.run_id = self._run.run_id
        except Exception as error:
            if refuse:
                raise ValueError(
                    f"tracking.uri {without_secrets(self.config.uri)} cannot be opened "
                    f"({without_secrets(_gist(error))}); correct "
                    "it, name another file if it is of another version or was made only in part, "
                    "or use --tracking.no-enabled"
                ) from error
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "MLflow at %s does not answer (%s); the training goes on, and what is missing "
                "there is sent when it answers",
                without_secrets(self.config.uri),
                without_secrets(_gist(error)),
            )


def _gist(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
