"""The folder of a run: its name, its resolved options, its history.

config.json      every option of the run
run.json         preset, MLflow run
metrics.jsonl    one event per line, see `history`
evaluations/     scores of each evaluation, see `apdist.retrieval.scores_file`
checkpoints/     see `checkpoint`
model.*          the trained network, see `apdist.model.pretrained`
"""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from apdist.config import Config, from_json, to_json
from apdist.data import storage
from apdist.training.events import CheckpointWritten, Event, Started
from apdist.training.history import Kept, from_lines, to_lines

CONFIG_NAME = "config.json"
SWEEP = "sweep of "
"""Begins the preset of a folder that holds the trials of a sweep."""
RUN_NAME = "run.json"
HISTORY_NAME = "metrics.jsonl"

T = TypeVar("T")
KeptEvent = TypeVar("KeptEvent", bound=Kept)


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
    history: list[Kept] = field(default_factory=list)
    is_behind: bool = False
    """Whether events are missing from the file, because its store cannot append."""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    def save_info(self) -> None:
        """Write run.json."""
        info = {"preset": self.preset, "tracking_run_id": self.tracking_run_id}
        storage.write_bytes(storage.join(self.uri, RUN_NAME), json.dumps(info).encode())

    def record(self, event: Event) -> None:
        """Keep what belongs to the history; a listener of `cluster.watch`."""
        if isinstance(event, Started):
            self.rewind(event.step)
        elif isinstance(event, Kept):
            self.add(event)
        elif isinstance(event, CheckpointWritten):
            self.catch_up()

    def add(self, event: Kept) -> None:
        """Append to the history; on a disk at once, in object storage with `catch_up`."""
        self.history.append(event)
        line = to_lines([event]).encode()
        if not storage.append_bytes(storage.join(self.uri, HISTORY_NAME), line):
            self.is_behind = True

    def catch_up(self) -> None:
        """Write the history if events are missing from its file."""
        if self.is_behind:
            self.save_history()

    def rewind(self, step: int) -> None:
        """Forget what lies after ``step``: those steps are done again."""
        kept = [event for event in self.history if event.step <= step]
        if len(kept) < len(self.history):
            self.history = kept
            self.save_history()

    def save_history(self) -> None:
        """Write the whole history."""
        lines = to_lines(self.history).encode()
        storage.write_bytes(storage.join(self.uri, HISTORY_NAME), lines)
        self.is_behind = False

    def discard_if_untouched(self) -> None:
        """Free the run's name again, unless a worker has been here (which makes folders)."""
        if not storage.list_folders(self.uri):
            for name in storage.list_files(self.uri):
                storage.remove(storage.join(self.uri, name))

    def of_kind(self, kind: type[KeptEvent]) -> list[KeptEvent]:
        """The events of one kind, in order."""
        return [event for event in self.history if isinstance(event, kind)]

    @property
    def steps_done(self) -> int:
        """Of the last event."""
        return self.history[-1].step if self.history else 0


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
    config = _read(uri, CONFIG_NAME, from_json)
    info = _read(uri, RUN_NAME, _info)
    history = _read(uri, HISTORY_NAME, from_lines)
    if str(info.get("preset", "")).startswith(SWEEP):
        raise ValueError(
            f"{uri} is a sweep; its trials are the runs: give one of the folders in it"
        )
    return Run(uri, config, info.get("preset", ""), info.get("tracking_run_id", ""), history)


def _read(uri: str, name: str, parse: Callable[[str], T]) -> T:
    """What ``parse`` makes of a file of the run; a file that is not there is read as empty."""
    path = storage.join(uri, name)
    text = storage.read_bytes(path) if storage.exists(path) else b""
    try:
        return parse(text.decode())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or of another version ({error}); put it back as it was, or train "
            "a new run"
        ) from error


def _info(text: str) -> dict[str, Any]:
    info = json.loads(text)
    if not isinstance(info, dict):
        raise ValueError(f"expected an object, got {text[:40]!r}")
    return info
