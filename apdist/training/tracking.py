"""MLflow: one run per training, fed by the driver in batches from a background thread.

Tracking must never cost a training: what cannot be logged is dropped with one warning.
"""

import logging
import os
import queue
import shlex
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apdist.config import TrackingConfig
from apdist.training.events import Evaluated, Event, Started, StepDone

logger = logging.getLogger(__name__)

FLUSH_S = 2.0
MAX_BATCH = 1000  # metrics in one request; MLflow's own limit
CLOSE_TIMEOUT_S = 30.0

Job = Callable[[], None]


class Tracker:
    """A run of MLflow that is written in the background.

    Args:
        config: store and experiment.
        name: name of the run.
        run_id: an existing run to go on with; empty: a new one.
        parent_id: the run of the sweep that this is a trial of, or empty.
    """

    def __init__(
        self, config: TrackingConfig, name: str, *, run_id: str = "", parent_id: str = ""
    ) -> None:
        self.config, self.name, self.run_id, self.parent_id = config, name, run_id, parent_id
        self._last_step = -1
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._metrics: list[tuple[str, float, int, int]] = []
        self._failed = False
        self._lock = threading.Lock()
        self._client: Any = None
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        if config.enabled:
            self._open()
            self._thread.start()

    def record(self, event: Event) -> None:
        """Log the figures of steps and evaluations; a listener of `cluster.watch`."""
        if isinstance(event, Started):
            self.set_tag("apdist.activations", event.activations)
        elif isinstance(event, StepDone):
            self.log_metrics(event.figures, event.step)
        elif isinstance(event, Evaluated):
            figures = event.figures | {"seconds": event.seconds, "step": event.step}
            self.log_metrics({f"eval_{k}": value for k, value in figures.items()}, event.step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log options; a run that is gone on with has them already."""

        def send() -> None:
            from mlflow.entities import Param

            entries = [Param(name, str(value)) for name, value in params.items()]
            self._client.log_batch(self.run_id, params=entries)

        self._submit(send)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log ``metrics`` of ``step``; a step logged before a restart is passed over."""
        now = int(time.time() * 1000)
        with self._lock:
            self._metrics += [(name, float(value), now, step) for name, value in metrics.items()]

    def log_file(self, path: Path) -> None:
        """Upload a file beside the run."""
        self._submit(lambda: self._client.log_artifact(self.run_id, str(path)))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._submit(lambda: self._client.set_tag(self.run_id, name, value))

    def close(self, status: str = "FINISHED") -> None:
        """Write what is waiting and end the run with ``status`` (FINISHED, KILLED or FAILED)."""
        if self._client is None:
            return
        self._submit(lambda: self._client.set_terminated(self.run_id, status))
        self._jobs.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning("MLflow at %s did not take the last entries in time", self.config.uri)

    def where(self) -> str:
        """How a person opens this run."""
        if not self.config.uri.startswith("sqlite:"):
            return f"{self.config.uri} (run {self.name})"
        return f"mlflow ui --backend-store-uri {shlex.quote(self.config.uri)}"

    def _open(self) -> None:
        """Find or make experiment and run.

        Raises:
            ValueError: the store cannot be opened; a wrong address should not wait for the end.
        """
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        with warnings.catch_warnings():
            # Deprecations inside MLflow's own imports are nothing our users can act on.
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError
        # After the import, which configures them: creating tables is no news for our users.
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            client = MlflowClient(self.config.uri)
            if self.run_id:
                client.update_run(self.run_id, status="RUNNING")
            else:
                found = client.get_experiment_by_name(self.config.experiment)
                experiment = (
                    found.experiment_id
                    if found
                    else client.create_experiment(
                        self.config.experiment, artifact_location=self._artifacts()
                    )
                )
                tags = {"mlflow.parentRunId": self.parent_id} if self.parent_id else {}
                run = client.create_run(experiment, run_name=self.name, tags=tags)
                self.run_id = run.info.run_id
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise ValueError(
                f"tracking.uri {self.config.uri} cannot be opened "
                f"({str(error).splitlines()[0]}); correct it, or use --tracking.no-enabled"
            ) from error
        self._client = client

    def _artifacts(self) -> str | None:
        """Beside a sqlite file; elsewhere the server decides."""
        if not self.config.uri.startswith("sqlite:///"):
            return None
        database = Path(self.config.uri.removeprefix("sqlite:///")).absolute()
        return (database.parent / "mlartifacts").as_uri()

    def _submit(self, job: Job) -> None:
        if self._client is not None:
            self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=FLUSH_S)
            except queue.Empty:
                self._attempt(self._flush)
                continue
            self._attempt(self._flush)
            if job is None:
                return
            self._attempt(job)

    def _flush(self) -> None:
        from mlflow.entities import Metric

        with self._lock:
            waiting, self._metrics = self._metrics, []
        for start in range(0, len(waiting), MAX_BATCH):
            batch = [Metric(*entry) for entry in waiting[start : start + MAX_BATCH]]
            self._client.log_batch(self.run_id, metrics=batch)

    def _attempt(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # whatever it is, the training goes on
            if not self._failed:
                self._failed = True
                logger.warning(
                    "MLflow at %s does not answer (%s); the training goes on, entries are lost",
                    self.config.uri,
                    str(error).splitlines()[0],
                )
