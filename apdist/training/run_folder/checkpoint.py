"""Checkpoints: everything a run needs to go on, written whole or not at all.

A checkpoint is a folder ``checkpoints/step-0000000060`` of the run with ``state-<sha256>.pt``
(tensors) and ``meta-3.json``, its marker, which is written last: a folder without it does not
count. The marker holds checksums of the state, of the pages of history that belong to it, and of
itself. State and pages are named by their content, the marker by the lease that it was written
under: who writes late, because another process has taken the run over in the meantime, replaces
nothing, and of two markers that of the later writer counts. The newest sound checkpoint is found by
listing, on a disk as in object storage, so a restarted worker group, another number of workers and
a later ``--resume`` all go on from the same place.
"""

import dataclasses
import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.storage.errors import MissingError
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.kept_weights import prune_weights
from apdist.training.run_folder.pages import prune_pages, read_page, read_pages
from apdist.training.run_folder.versions import FORMAT, refuse_other_format
from apdist.training.step.states import (
    load_network_state,
    load_optimizer_state,
    network_state,
    optimizer_state,
)

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
_LOOKS = 3
"""How often a mere reader looks for a missing file: who trains may write and delete meanwhile."""
_DAMAGE = (
    *(json.JSONDecodeError, UnicodeDecodeError),
    *(AttributeError, TypeError, KeyError),
)
"""Exceptions from reading a marker file that holds something else."""
MARKER_NAME = re.compile(r"meta-(\d+)\.json")


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What a checkpoint belongs to and holds."""

    step: int
    """Steps done; also the number of the next one."""
    config_hash: str
    """Of the options that decide the result; see `apdist.config.config_hash`."""
    data_hash: str
    """Of the images that are trained on; see the catalogue's `fingerprint`."""
    state_sha256: str = ""
    """Of the file with the tensors, and in its name."""
    history: tuple[str, ...] = ()
    """Pages with all events up to this step; see `history`."""
    writer: int = 0
    """Number of the lease that it is written under; 0 without one."""
    weights: dict[str, str] = dataclasses.field(default_factory=dict)
    """Files that it needs beside its own, by what they are for; see `kept_weights`."""


@dataclass(frozen=True)
class SoundCheckpoint:
    """A sound checkpoint."""

    uri: str
    marker: Marker
    state: bytes
    """Content of its file with the tensors; empty where only the marker was asked for."""


class StatePart(Protocol):
    """What a checkpoint keeps beside model and optimiser; it is whole on every worker."""

    def state_dict(self) -> dict[str, Any]:
        """Copies on the CPU."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; empty where the checkpoint has nothing of it."""


def whole_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, parts: Mapping[str, StatePart] | None = None
) -> dict[str, Any]:
    """Model, optimiser and ``parts`` on the CPU, by name, as copies; all workers must call it.

    The same whether parameters are sharded or not, so a run may change that between checkpoints.
    On workers other than 0 it is empty if they are sharded.
    """
    state = {"model": network_state(model), "optimizer": optimizer_state(model, optimizer)}
    return state | {name: part.state_dict() for name, part in (parts or {}).items()}


def save_checkpoint(
    run: str, state: dict[str, Any], marker: Marker, may_write: Callable[[], None] = lambda: None
) -> tuple[str, Marker]:
    """Write a checkpoint into the run's folder; returns its URI and the whole marker.

    Args:
        run: URI of the run's folder.
        state: what `whole_state` gave.
        marker: all of it but the checksum of the state; its pages are written already.
        may_write: called before each file is written, raises if it must not.
    """
    uri = storage.join(run, f"{FOLDER}/{checkpoint_name(marker.step)}")
    target = io.BytesIO()
    torch.save(state, target)
    content = target.getvalue()
    may_write()
    marker = write_state(uri, content, marker)
    may_write()
    write_marker(run, marker)
    return uri, marker


def write_state(uri: str, content: bytes, marker: Marker) -> Marker:
    """Write the file with the tensors of the checkpoint ``uri``; returns the whole marker."""
    marker = dataclasses.replace(marker, state_sha256=hashlib.sha256(content).hexdigest())
    storage.write_bytes(storage.join(uri, state_name(marker)), content)
    return marker


def write_marker(run: str, marker: Marker) -> None:
    """Make the checkpoint of ``marker``, whose other files are there, valid."""
    place = f"{FOLDER}/{checkpoint_name(marker.step)}/{marker_name(marker)}"
    storage.write_bytes(storage.join(run, place), _sealed(marker))


def checkpoint_name(step: int) -> str:
    """Name of the folder of a checkpoint; sorts as the steps do."""
    return f"step-{step:010d}"


def marker_name(marker: Marker) -> str:
    """Name of the file that makes a checkpoint valid."""
    return f"meta-{marker.writer}.json"


def state_name(marker: Marker) -> str:
    """Name of the file with the tensors."""
    return f"state-{marker.state_sha256}.pt"


def newest_sound(run: str, *, with_state: bool = True) -> SoundCheckpoint | None:
    """The newest sound checkpoint; None if there is none at all. Says what is passed over.

    Args:
        run: URI of the run's folder.
        with_state: read and check the tensors too; else the marker and the history only.

    Raises:
        ValueError: there are checkpoints, but none is sound.
    """
    for _ in range(1 if with_state else _LOOKS):
        found, reasons = _newest(run, with_state)
        if not any(reasons.values()):
            break
    if found is not None:
        for reason in reasons:
            logger.warning("passed over a damaged checkpoint: %s", reason)
        return found
    if reasons:
        raise ValueError(
            f"no checkpoint of {run} is sound ({'; '.join(reasons)[:600]}); put one back, or start "
            "anew under another --run.name"
        )
    return None


def newest_history(run: str) -> list[HistoryEvent]:
    """What has happened up to the newest sound checkpoint; empty if there is none at all.

    Raises:
        ValueError: there are checkpoints, but none is sound.
    """
    looks = 0
    while True:
        found, looks = newest_sound(run, with_state=False), looks + 1
        try:
            return read_pages(run, found.marker.history) if found else []
        except MissingError:  # written anew since
            if looks == _LOOKS:
                raise


def _newest(run: str, with_state: bool) -> tuple[SoundCheckpoint | None, dict[str, bool]]:
    """The newest sound checkpoint, and why others are passed over: whether a file is missing."""
    reasons: dict[str, bool] = {}
    for name in _names(run):
        uri = storage.join(run, f"{FOLDER}/{name}")
        for file in _marker_names(uri):  # none: it was cut off while it was written, or deleted
            try:
                return _sound(run, uri, file, with_state), reasons
            except (ValueError, MissingError) as error:
                reasons[f"{uri}: {error}"] = isinstance(error, MissingError)
    return None, reasons


def sound(run: str, uri: str, writer: int) -> SoundCheckpoint:
    """The checkpoint at ``uri`` of ``run`` as a ``writer`` left it.

    Raises:
        ValueError: it is damaged.
    """
    return _sound(run, uri, f"meta-{writer}.json", with_state=True)


def _sound(run: str, uri: str, file: str, with_state: bool) -> SoundCheckpoint:
    marker = read_marker(uri, file)
    for page in marker.history:
        read_page(run, page)
    if not with_state:
        return SoundCheckpoint(uri, marker, b"")
    state = storage.read_bytes(storage.join(uri, state_name(marker)))
    if hashlib.sha256(state).hexdigest() != marker.state_sha256:
        raise ValueError(f"the checksum of {state_name(marker)} ({len(state)} bytes) differs")
    return SoundCheckpoint(uri, marker, state)


def read_marker(uri: str, file: str) -> Marker:
    """What the checkpoint at ``uri`` belongs to and holds, by its marker ``file``.

    Raises:
        ValueError: the file is damaged, or of another version.
    """
    content = storage.read_bytes(storage.join(uri, file))
    try:
        values = read_json(content)
        refuse_other_format(uri, values.pop("format", 1))
        seal = values.pop("sha256")
        lists = {"history": tuple(values["history"]), "weights": {**values["weights"]}}
        marker = _plain(Marker(**values | lists))
    except _DAMAGE as error:
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error})") from error
    if seal != _seal(marker):
        raise ValueError(f"the checksum of {file} differs")
    return marker


def _plain(marker: Marker) -> Marker:
    """``marker`` if its values are of their kinds: they are made into names of files."""
    counts = (marker.step, marker.writer)
    if not all(type(count) is int and count >= 0 for count in counts):
        raise TypeError("step and writer must be counts")
    names = (*marker.history, *marker.weights.values(), *marker.weights)
    hashes = (marker.config_hash, marker.data_hash, marker.state_sha256)
    if not all(isinstance(name, str) for name in (*names, *hashes)):
        raise TypeError("names and checksums must be texts")
    if marker.state_sha256 and not re.fullmatch(r"[0-9a-f]{64}", marker.state_sha256):
        raise TypeError("state_sha256 must be a checksum")
    return marker


def load_state(
    found: SoundCheckpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    config_hash: str,
    data_hash: str,
    parts: Mapping[str, StatePart] | None = None,
) -> None:
    """Restore model, optimiser and ``parts``. All workers must call it.

    Raises:
        ValueError: the checkpoint was written with other options or images.
    """
    if found.marker.config_hash != config_hash:
        raise ValueError(
            f"{found.uri} was written with other data, model, loss or training options "
            f"({found.marker.config_hash}, now {config_hash}); resume without changing them, or "
            "start a new run from it with --fork"
        )
    if found.marker.data_hash != data_hash:
        raise ValueError(
            f"{found.uri} was written while training on other images; the catalogue or the list of "
            "excluded images has changed since: put it back, or start anew"
        )
    state: dict[str, Any] = torch.load(
        io.BytesIO(found.state), map_location="cpu", weights_only=True
    )
    load_network_state(model, state["model"])
    load_optimizer_state(model, optimizer, state["optimizer"])
    for name, part in (parts or {}).items():
        part.load_state_dict(state.get(name, {}))


def prune_checkpoints(run: str, written: Marker, keep: int, *, pages: Collection[str] = ()) -> None:
    """Delete all but the ``keep`` newest checkpoints, and history and weights that only they had.

    Args:
        run: URI of the run's folder.
        written: the newest one. What lies after it was passed over, as damaged or cut off; it does
            not count, and stays until it is written anew.
        keep: at least 1.
        pages: of the history that are not deleted whatever checkpoint has them.
    """
    names = _names(run)
    newest = names.index(checkpoint_name(written.step))
    for name in names[newest + keep :]:
        _remove(run, name)
    _remove(run, names[newest], but={marker_name(written), state_name(written)})
    used, weights = set(pages), set[str]()
    for name in names[: newest + keep]:
        uri = storage.join(run, f"{FOLDER}/{name}")
        for file in _marker_names(uri):
            try:
                marker = read_marker(uri, file)
            except MissingError:
                continue
            except ValueError:
                return  # its pages are not known; nothing that a person may still need is deleted
            used |= set(marker.history)
            weights |= set(marker.weights.values())
    prune_pages(run, used)
    prune_weights(run, weights)


def _remove(run: str, name: str, but: Collection[str] = ()) -> None:
    """Delete the files of a checkpoint; the marker first: what is half deleted must not count."""
    files = storage.list_files(storage.join(run, f"{FOLDER}/{name}"))
    for file in sorted(set(files) - set(but), key=lambda file: not MARKER_NAME.fullmatch(file)):
        storage.remove(storage.join(run, f"{FOLDER}/{name}/{file}"))


def _marker_names(uri: str) -> list[str]:
    """Files that make the checkpoint at ``uri`` valid, that of the latest writer first."""
    files = storage.list_files(uri)
    writers = {file: int(found[1]) for file in files if (found := MARKER_NAME.fullmatch(file))}
    return sorted(writers, key=lambda file: -writers[file])


def _names(run: str) -> list[str]:
    """Folders of checkpoints, newest first."""
    names = storage.list_folders(storage.join(run, FOLDER))
    steps = {name: int(found[1]) for name in names if (found := re.fullmatch(r"step-(\d+)", name))}
    return sorted(steps, key=lambda name: -steps[name])


def _sealed(marker: Marker) -> bytes:
    values = {"format": FORMAT, **dataclasses.asdict(marker), "sha256": _seal(marker)}
    return json.dumps(values, indent=1).encode()


def _seal(marker: Marker) -> str:
    values = json.dumps([FORMAT, dataclasses.asdict(marker)], sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()
