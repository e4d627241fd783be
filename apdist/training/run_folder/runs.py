"""The folder of a run: its name, its resolved options, its history.

config.json      every option of the run
run.json         preset, MLflow run and whether all is there, the run it was forked from
metrics.jsonl    one event per line, see `history`: a view
history/         the same in pages that belong to checkpoints, see `pages`
writer/          who trains it, see `lease`
evaluations/     scores of each evaluation, see `apdist.retrieval.scores_file`
checkpoints/     see `checkpoint`
weights/         the chosen ones so far, see `kept_weights`
model.*          the trained network, see `apdist.model.pretrained`
"""

import itertools
import json
import logging
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from apdist.addresses import without_any
from apdist.config import Config, from_json, override, to_json
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.decoders import with_versions
from apdist.data.storage.local import missing_folders
from apdist.data.text import decoded
from apdist.training.events import (
    CheckpointWritten,
    ChunksResized,
    Ended,
    Evaluated,
    Event,
    SetMeasured,
    Started,
)
from apdist.training.run_folder.history import HistoryEvent, follows, from_lines, to_lines
from apdist.training.run_folder.lease import FOLDER as LEASES
from apdist.training.run_folder.lease import Lease, holder_of
from apdist.training.run_folder.pages import read_pages
from apdist.training.run_folder.versions import FORMAT, refuse_other_format

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
RAY = "ray"
"""Folder in which Ray Train keeps its own files."""
SWEEP = "sweep of "
"""Begins the preset of a folder that holds the trials of a sweep."""
RUN_NAME = "run.json"
HISTORY_NAME = "metrics.jsonl"

T = TypeVar("T")
EventT = TypeVar("EventT", bound=HistoryEvent)


def evaluation_name(split: str, step: int) -> str:
    """Where the scores of ``split`` after ``step`` steps lie in the run's folder."""
    return f"evaluations/{quote(split, safe='')}-step-{step:010d}.json"


@dataclass
class Run:
    """A run that is open."""

    uri: str
    config: Config
    preset: str
    info: dict[str, Any] = field(default_factory=dict)
    """What else is in run.json: ``tracking_run_id``, ``tracked``, ``parent`` and more."""
    history: list[HistoryEvent] = field(default_factory=list)
    is_behind: bool = False
    """Whether events are missing from metrics.jsonl, because its store cannot append."""
    lease: Lease | None = None
    """By which this process holds the run; after it is lost nothing is written any more."""
    made: list[Path] = field(default_factory=list)
    """Folders on a disk that were made for it, innermost first."""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    def save_info(self, **changes: Any) -> None:
        """Write run.json, with ``changes``."""
        self.info |= changes
        info = without_any({"format": FORMAT, "preset": self.preset, **self.info})
        self._write(RUN_NAME, json.dumps(info))

    def save_config(self) -> None:
        """Write config.json."""
        self._write(CONFIG_NAME, to_json(self.config))

    def record(self, event: Event) -> bool:
        """Keep what belongs to the history; whether ``event`` is news.

        What workers post that have been replaced is none.
        """
        if isinstance(event, Started):
            self.history = read_pages(self.uri, event.history)
            self._save_chunk_size(event)  # a resume may have changed options, and was not refused
            self.save_history()
        elif isinstance(event, ChunksResized):
            self._save_chunk_size(event)
        elif isinstance(event, HistoryEvent):
            if not follows(self.history, event):
                return False
            self.add(event)
        elif isinstance(event, CheckpointWritten):
            self.catch_up()
        return True

    def _save_chunk_size(self, event: Started | ChunksResized) -> None:
        self.config = override(self.config, {"training.chunk_size": event.chunk_size})
        self.save_config()

    def add(self, event: HistoryEvent) -> None:
        """Append to the history; on a disk at once, in object storage with `catch_up`."""
        place = storage.join(self.uri, HISTORY_NAME)
        if storage.local_path(place) is not None:  # an outage elsewhere must not be waited for here
            self._refuse_if_lost()
        self.history.append(event)
        if not storage.append_bytes(place, to_lines([event]).encode()):
            self.is_behind = True

    def catch_up(self) -> None:
        """Write metrics.jsonl if events are missing from it."""
        if self.is_behind:
            self.save_history()

    def save_history(self) -> None:
        """Write metrics.jsonl: a view of the pages beside the checkpoints, and of what came since.

        It can be deleted and made again at any time.
        """
        self._write(HISTORY_NAME, to_lines(self.history))
        self.is_behind = False

    def _write(self, name: str, text: str) -> None:
        self._refuse_if_lost()
        storage.write_bytes(storage.join(self.uri, name), text.encode())

    def _refuse_if_lost(self) -> None:
        if self.lease is not None:
            self.lease.refuse_if_silent()

    def discard_if_untouched(self) -> bool:
        """Take the folder away again, unless the training has begun; whether it could."""
        from apdist.training.run_folder.checkpoint import FOLDER as CHECKPOINTS

        untouched = {LEASES, RAY} | ({CHECKPOINTS} if "parent" in self.info else set())
        if self.history or not set(storage.list_folders(self.uri)) <= untouched:
            return False
        if holder_of(self.uri) is not None:  # another process has gone on with it meanwhile
            return False
        if (path := storage.local_path(self.uri)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            for empty in self.made:
                with suppress(OSError):
                    empty.rmdir()
            return True
        for folder in (LEASES, ""):
            uri = storage.join(self.uri, folder) if folder else self.uri
            for name in storage.list_files(uri):
                storage.remove(storage.join(uri, name))
        return True

    def of_kind(self, kind: type[EventT]) -> list[EventT]:
        """The events of one kind, in order."""
        return [event for event in self.history if isinstance(event, kind)]

    @property
    def is_complete(self) -> bool:
        """Whether it is trained to its end, perhaps an early one, and the model is saved."""
        # What it saved may have been measured since.
        done = [e for e in self.history if not isinstance(e, Evaluated | SetMeasured)]
        if not done or not isinstance(ended := done[-1], Ended):
            return False
        return ended.is_early or ended.step >= self.config.training.steps

    @property
    def steps_done(self) -> int:
        """Of the last event."""
        return self.history[-1].step if self.history else 0


def create_run(config: Config, preset: str) -> Run:
    """Make the folder of a new run and write its options, the decoder with its versions.

    Raises:
        ValueError: a run of this name exists, or the decoder is not here.
    """
    config = with_versions(config)
    name = config.run.name or f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):  # of trainings that begin in one second
        uri = storage.join(config.run.output, name if number == 1 else f"{name}-{number}")
        path = storage.local_path(uri)
        made = missing_folders(path) if path is not None else []
        if storage.is_empty(uri) and _created(uri, config):
            break
        if config.run.name:
            raise _taken(uri)
    run = Run(uri, config, preset, made=made)
    run.save_info()
    return run


def refuse_taken(config: Config) -> None:
    """Return while a run of this name can be made.

    Raises:
        ValueError: one exists.
    """
    uri = storage.join(config.run.output, config.run.name)
    if config.run.name and not storage.is_empty(uri):
        raise _taken(uri)


def _taken(uri: str) -> ValueError:
    try:
        is_sweep = _opened(uri).preset.startswith(SWEEP)
    except ValueError:  # something else, or half of a run
        is_sweep = False
    return ValueError(
        f"the {'sweep' if is_sweep else 'run'} {uri} exists; choose another --run.name, or go on "
        f"with it: apdist {'sweep' if is_sweep else 'train'} --resume {shlex.quote(uri)}"
    )


def _created(uri: str, config: Config) -> bool:
    """Write the options of a new run; false where another process was faster."""
    return storage.create(storage.join(uri, CONFIG_NAME), to_json(config).encode())


def open_run(uri: str) -> Run:
    """Open the folder of a run.

    Raises:
        ValueError: there is no run, or its files are damaged.
    """
    run = _opened(uri)
    if run.preset.startswith(SWEEP):
        raise ValueError(
            f"{uri} is a sweep; its trials are the runs: give one of the folders in it"
        )
    run.history = whole_history(uri)
    return run


def open_sweep(uri: str) -> Run:
    """Open the folder of a sweep; its trials are the runs in it.

    Raises:
        ValueError: there is no sweep, or its files are damaged.
    """
    run = _opened(uri)
    if not run.preset.startswith(SWEEP):
        raise ValueError(f"{uri} is no sweep but a run: apdist train --resume {shlex.quote(uri)}")
    return run


def _opened(uri: str) -> Run:
    """A folder with options, without its history."""
    if not storage.exists(storage.join(uri, CONFIG_NAME)):
        raise ValueError(f"{uri} is no run ({CONFIG_NAME} is missing); give a folder under runs/")
    info = _read(uri, RUN_NAME, _info)
    refuse_other_format(uri, info.pop("format", 1))
    preset = str(info.pop("preset", ""))
    return Run(uri, _read(uri, CONFIG_NAME, from_json), preset, info)


def whole_history(uri: str) -> list[HistoryEvent]:
    """What has happened: what the newest checkpoint has, then what was told since.

    Raises:
        ValueError: metrics.jsonl holds something else.
    """
    # Here: torch is not needed to say what `apdist train --help` says.
    from apdist.training.run_folder.checkpoint import newest_history

    told = _read(uri, HISTORY_NAME, from_lines)
    try:
        history = newest_history(uri)
    except ValueError as error:  # who only reads can do without
        logger.warning("%s", error)
        history = []
    for event in told:
        if follows(history, event):
            history.append(event)
    return history


def _read(uri: str, name: str, parse: Callable[[str], T]) -> T:
    """What ``parse`` makes of a file of the run; a file that is not there is read as empty."""
    path = storage.join(uri, name)
    text = storage.read_bytes(path) if storage.exists(path) else b""
    try:
        return parse(decoded(text))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or of another version ({error}); put it back as it was, or train "
            "a new run"
        ) from error


def _info(text: str) -> dict[str, Any]:
    info = read_json(text)
    if not isinstance(info, dict):
        raise ValueError(f"expected an object, got {text[:40]!r}")
    return info
