"""One run in MLflow: found or made, written so that what is sent twice is there once."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist.config import TrackingConfig
from apdist.config.values import shown
from apdist.training.tracking.database import identity, make_database, patient, sqlite_path
from apdist.training.tracking.datasets import inputs
from apdist.training.tracking.description import is_illustrated, is_ours, signed

MAX_BATCH = 1000
"""Metrics in one request; MLflow's own limit."""
MAX_OPTIONS = 100
"""Options in one request, and tags; likewise."""
IDENTITY = "apdist.identity"
"""Tag by which a run is found again whose making was not answered."""
KIND, OF_MODELS = "mlflow.experimentKind", "custom_model_development"
"""Tag of an experiment, and its value with which the pages open on the runs, not on traces."""
NOTE = "mlflow.note.content"
"""Tag of the description."""
SMALL_BYTES = 1 << 20
"""Files under this size are sent again rather than compared."""


class GoneError(ValueError):
    """A person has taken away there what is to be written; waiting does not bring it back."""


class RunGoneError(GoneError):
    """Of a run that was sent before, and can be sent anew."""


@dataclass(frozen=True)
class About:
    """What is known of a run when it begins."""

    params: Mapping[str, Any]
    """Options by dotted name."""
    tags: Mapping[str, str]
    datasets: Sequence[Mapping[str, Any]]
    """What it uses, see `datasets`."""


@dataclass(frozen=True)
class Point:
    """The figures of one event."""

    metrics: Mapping[str, float]
    step: int
    time_ms: int
    """When it happened: MLflow takes equal name, step, time and value as one entry."""

    @property
    def series(self) -> str:
        """Events with the same first figure are of one kind; a step has one of each."""
        return next(iter(self.metrics))


class MlflowRun:
    """A run of an experiment.

    Args:
        config: store and experiment.
        name: of the run.
        run_id: an existing run to go on with; empty: it is made.
        tags: of a run that is made.

    Raises:
        GoneError: the run was taken away there, or the experiment.
        Exception: whatever MLflow throws where the store does not answer.
    """

    def __init__(
        self, config: TrackingConfig, name: str, run_id: str, tags: Mapping[str, str]
    ) -> None:
        self._steps: dict[str, set[int]] = {}
        self.experiment_id = ""
        """Known once the run is begun."""
        if run_id and (path := sqlite_path(config.uri)) is not None and not path.exists():
            raise RunGoneError(
                f"there is no {path} any more, which had the run {run_id}; restore it"
            )
        while True:
            make_database(config.uri, _client)
            file = identity(config.uri)
            self.client = patient(lambda: _client(config.uri))
            self.run_id = run_id or patient(lambda: self._found_or_made(config, name, tags))
            if identity(config.uri) == file:
                break
            # A refused run has taken the database away that it had made.
        if run_id:
            patient(self.refuse_gone)

    def refuse_gone(self) -> None:
        """Refuse to go on with a run that is not in the store any more.

        Raises:
            GoneError: it was deleted, or the store does not know it.
        """
        try:
            there = self.client.get_run(self.run_id).info
        except Exception as error:
            if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                raise RunGoneError(f"it has no run {self.run_id}; restore it there") from error
            raise
        if there.lifecycle_stage == "deleted":
            experiment = self.client.get_experiment(there.experiment_id)
            if experiment.lifecycle_stage == "deleted":  # and all runs with it
                raise _deleted_experiment(experiment)
            raise RunGoneError(
                f"the run {self.run_id} was deleted there; restore it: mlflow runs restore "
                f"--run-id {self.run_id}"
            )

    def begin(self, about: About) -> None:
        """Log what is missing of ``about``: a driver that was killed may have sent a part."""
        from mlflow.entities import Param, RunTag

        there = self.client.get_run(self.run_id)
        self.experiment_id = str(there.info.experiment_id)
        params = [
            Param(name, shown(value))
            for name, value in about.params.items()
            if name not in there.data.params
        ]
        tags = [
            RunTag(name, value) for name, value in about.tags.items() if name not in there.data.tags
        ]
        for first in range(0, max(len(params), len(tags)), MAX_OPTIONS):
            part = slice(first, first + MAX_OPTIONS)
            self.client.log_batch(self.run_id, params=params[part], tags=tags[part])
        if about.datasets and not there.inputs.dataset_inputs:
            self.client.log_inputs(self.run_id, inputs(about.datasets))

    def find_steps(self, points: Sequence[Point]) -> None:
        """Ask the store which steps of the series of ``points`` it has, unless that is known."""
        for point in points:
            self._steps_of(point.series)

    def log_points(self, points: Sequence[Point]) -> None:
        """Log those of ``points`` whose step is not there yet, each whole in one request."""
        from mlflow.entities import Metric

        batch: list[Any] = []
        new = [point for point in points if point.step not in self._steps_of(point.series)]
        for point in new:
            if len(batch) + len(point.metrics) > MAX_BATCH:
                self.client.log_batch(self.run_id, metrics=batch)
                batch = []
            batch += [
                Metric(name, float(value), point.time_ms, point.step)
                for name, value in point.metrics.items()
            ]
        if batch:
            self.client.log_batch(self.run_id, metrics=batch)
        # Only now: what was not answered is sent again, and is the same entry.
        for point in new:
            self._steps[point.series].add(point.step)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Upload a file beside the run, unless one of its name and size is there."""
        place = f"{folder}/{path.name}" if folder else path.name
        there = {found.path: found.file_size for found in self._files(folder)}
        # A page or options may change and keep their size; weights have no name of their own.
        if path.stat().st_size < SMALL_BYTES or there.get(place) != path.stat().st_size:
            self.client.log_artifact(self.run_id, str(path), folder or None)

    def describe(self, text: str, has_gallery: bool = False) -> None:
        """Set the description, unless a person has written one.

        Args:
            text: Markdown.
            has_gallery: whether the picture of ranked queries lies beside the run; one that is
                shown stays.
        """
        there = self.client.get_run(self.run_id).data.tags.get(NOTE, "")
        if is_ours(there):
            shown = has_gallery or is_illustrated(there, self.run_id)
            self.client.set_tag(self.run_id, NOTE, signed(text, self.run_id, shown))

    def _files(self, folder: str) -> list[Any]:
        return list(self.client.list_artifacts(self.run_id, folder or None))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self.client.set_tag(self.run_id, name, value)

    def reopen(self) -> None:
        """Say that the run goes on."""
        self.client.update_run(self.run_id, status="RUNNING")

    def end(self, status: str, end_ms: int = 0) -> None:
        """End the run with ``status``: FINISHED, KILLED or FAILED; at that time, or now."""
        self.client.set_terminated(self.run_id, status, end_ms or None)

    def delete(self) -> None:
        """Take the run away again."""
        self.client.delete_run(self.run_id)

    def _experiment(self, config: TrackingConfig) -> str:
        """The id of the experiment, which is made if it is not there."""
        if found := self.client.get_experiment_by_name(config.experiment):
            if found.lifecycle_stage == "deleted":  # MLflow keeps its name
                raise _deleted_experiment(found)
            if KIND not in found.tags:  # what a person has chosen there stays
                self.client.set_experiment_tag(found.experiment_id, KIND, OF_MODELS)
            return str(found.experiment_id)
        try:
            return str(
                self.client.create_experiment(
                    config.experiment,
                    artifact_location=_artifacts(config.uri),
                    tags={KIND: OF_MODELS},
                )
            )
        except Exception:
            if found := self.client.get_experiment_by_name(config.experiment):
                return str(found.experiment_id)  # another training was faster
            raise

    def _steps_of(self, series: str) -> set[int]:
        if series not in self._steps:
            history = self.client.get_metric_history(self.run_id, series)
            self._steps[series] = {metric.step for metric in history}
        return self._steps[series]

    def _found_or_made(self, config: TrackingConfig, name: str, tags: Mapping[str, str]) -> str:
        experiment = self._experiment(config)
        runs = self.client.search_runs(
            [experiment], f"tags.`{IDENTITY}` = '{tags[IDENTITY]}'", max_results=1
        )
        if not runs:
            runs = [self.client.create_run(experiment, run_name=name, tags=dict(tags))]
        return str(runs[0].info.run_id)


def is_server(uri: str) -> bool:
    """Whether ``uri`` is the address of a server, which may be away for a while."""
    return uri.startswith(("http://", "https://"))


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    if sqlite_path(uri) is not None:  # a connection that is kept would outlive a file taken away
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with warnings.catch_warnings():
        # Deprecations inside MLflow's own imports are nothing our users can act on.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
    # After the import, which configures them: creating tables is no news for our users.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


def _deleted_experiment(experiment: Any) -> GoneError:
    return GoneError(
        f"the experiment {experiment.name!r} was deleted there; restore it: mlflow experiments "
        f"restore -x {experiment.experiment_id}, or use another --tracking.experiment"
    )


def _artifacts(uri: str) -> str | None:
    """Beside a sqlite file; elsewhere the server decides."""
    path = sqlite_path(uri)
    return None if path is None else (path.absolute().parent / "mlartifacts").as_uri()
