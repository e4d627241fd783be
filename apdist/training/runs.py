"""The folder of a run: its name, its resolved options, its history.

config.json      every option of the run
run.json         preset, MLflow run
metrics.jsonl    one event per line: steps and evaluations
evaluations/     scores of each evaluation, see `apdist.retrieval.scores_file`
checkpoints/     see `checkpoint`
model.*          the trained network, see `apdist.model.pretrained`
"""

import json
import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apdist.config import Config, from_json, to_json
from apdist.data import storage
from apdist.training.events import Event

CONFIG_NAME = "config.json"
SWEEP = "sweep of "
"""Begins the preset of a folder that holds the trials of a sweep."""
RUN_NAME = "run.json"
HISTORY_NAME = "metrics.jsonl"


def evaluation_name(step: int) -> str:
    """Where the scores after ``step`` steps lie in the run's folder."""
    return f"evaluations/step-{step:06d}.json"


@dataclass
class Run:
    """A run that is open."""

    uri: str
    config: Config
    preset: str
    tracking_run_id: str = ""
    history: list[Event] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    def save_info(self) -> None:
        """Write run.json."""
        info = {"preset": self.preset, "tracking_run_id": self.tracking_run_id}
        storage.write_bytes(storage.join(self.uri, RUN_NAME), json.dumps(info).encode())

    def add(self, event: Event) -> None:
        """Append to the history; on a disk at once, in object storage with `save_history`."""
        self.history.append(event)
        if not storage.is_remote(self.uri):
            with Path(self.uri, HISTORY_NAME).open("a") as file:
                file.write(json.dumps(event) + "\n")

    def rewind(self, step: int) -> None:
        """Forget what lies after ``step``: those steps are done again."""
        kept = [event for event in self.history if event["step"] <= step]
        if len(kept) < len(self.history):
            self.history = kept
            self.save_history()

    def save_history(self) -> None:
        """Write the whole history."""
        lines = "".join(json.dumps(event) + "\n" for event in self.history)
        storage.write_bytes(storage.join(self.uri, HISTORY_NAME), lines.encode())

    def discard_if_untouched(self) -> None:
        """Free the run's name again, unless a worker has been here (which makes folders)."""
        if not storage.list_folders(self.uri):
            for name in storage.list_files(self.uri):
                storage.remove(storage.join(self.uri, name))

    def of_kind(self, kind: str) -> list[Event]:
        """The events of one kind, in order."""
        return [event for event in self.history if event["kind"] == kind]


def create_run(config: Config, preset: str) -> Run:
    """Make the folder of a new run and write its options.

    Raises:
        ValueError: a run of this name exists.
    """
    name = config.run.name or f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    uri = storage.join(config.run.output, name)
    if not storage.is_empty(uri):
        raise ValueError(
            f"the run {uri} exists; choose another --run.name, or go on with it: "
            f"apdist train --resume {shlex.quote(uri)}"
        )
    storage.write_bytes(storage.join(uri, CONFIG_NAME), to_json(config).encode())
    run = Run(uri, config, preset)
    run.save_info()
    return run


def open_run(uri: str) -> Run:
    """Open the folder of a run.

    Raises:
        ValueError: there is no run, or its files are damaged.
    """
    if not storage.exists(storage.join(uri, CONFIG_NAME)):
        raise ValueError(f"{uri} is no run ({CONFIG_NAME} is missing); give a folder under runs/")
    try:
        config = from_json(storage.read_bytes(storage.join(uri, CONFIG_NAME)).decode())
        info: dict[str, Any] = json.loads(storage.read_bytes(storage.join(uri, RUN_NAME)))
        history = _read_history(uri)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"the run {uri} cannot be read: {error}") from error
    if str(info.get("preset", "")).startswith(SWEEP):
        raise ValueError(
            f"{uri} is a sweep; its trials are the runs: give one of the folders in it"
        )
    return Run(uri, config, info.get("preset", ""), info.get("tracking_run_id", ""), history)


def _read_history(uri: str) -> list[Event]:
    path = storage.join(uri, HISTORY_NAME)
    if not storage.exists(path):
        return []
    lines = storage.read_bytes(path).decode().splitlines()
    # A line that a crash cut off is not an event.
    return [json.loads(line) for line in lines if re.fullmatch(r"\{.*\}", line)]
