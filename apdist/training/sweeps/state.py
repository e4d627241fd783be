"""What is kept of a sweep, in its folder: sweep.json, and a file for each trial.

A file is written whole or not at all, on a disk as in object storage. What cannot be written while
a store is away is written with what comes next.
"""

import dataclasses
import json
import logging
from typing import Any, get_args

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.text import decoded
from apdist.training.sweeps.records import TrialRecord, TrialState

logger = logging.getLogger(__name__)

SWEEP_NAME = "sweep.json"
TRIALS = "trials"


class SweepState:
    """The trials of a sweep, each kept as soon as it changes.

    Args:
        uri: the sweep's folder.
        records: those that are there, in their order.
    """

    def __init__(self, uri: str, records: list[TrialRecord] | None = None) -> None:
        self.uri, self.records = uri, list(records or [])
        self._unwritten: set[int] = set()

    def save(self, record: TrialRecord) -> TrialRecord:
        """Keep a trial, new or changed."""
        if record.number == len(self.records):
            self.records.append(record)
        self.records[record.number] = record
        self._unwritten.add(record.number)
        self.flush()
        return record

    def flush(self) -> None:
        """Write what is not written yet, as far as the store takes it."""
        try:
            for number in sorted(self._unwritten):
                content = json.dumps(dataclasses.asdict(self.records[number]))
                storage.write_bytes(_place(self.uri, number), content.encode())
                self._unwritten.discard(number)
        except OSError as error:
            logger.warning("the state of %d trials waits: %s", len(self._unwritten), error)

    def named(self, name: str) -> TrialRecord:
        """The trial of that name."""
        return next(record for record in self.records if record.name == name)


def write_head(uri: str, head: dict[str, Any]) -> None:
    """Keep what a sweep is, besides its trials."""
    storage.write_bytes(storage.join(uri, SWEEP_NAME), json.dumps(head, indent=1).encode())


def read_head(uri: str) -> dict[str, Any]:
    """What `write_head` kept.

    Raises:
        ValueError: it is no sweep, or the file is damaged.
    """
    place = storage.join(uri, SWEEP_NAME)
    if not storage.exists(place):
        raise ValueError(
            f"{uri} is no sweep ({SWEEP_NAME} is missing); give the folder of one, under runs/"
        )
    try:
        head = read_json(decoded(storage.read_bytes(place)))
        if not isinstance(head, dict):
            raise ValueError(f"expected an object, got {str(head)[:40]}")
    except ValueError as error:
        raise ValueError(f"{place} is damaged ({error}); begin another sweep") from error
    return head


def read_state(uri: str) -> SweepState:
    """The trials of the sweep in ``uri``, as they were kept last.

    Raises:
        ValueError: a file is damaged, or one is missing before the last.
    """
    names = storage.list_files(storage.join(uri, TRIALS), ".json")
    return SweepState(uri, [_read(uri, number) for number in range(len(names))])


def _read(uri: str, number: int) -> TrialRecord:
    place = _place(uri, number)
    try:
        plain = read_json(decoded(storage.read_bytes(place)))
        plain["curve"] = [(int(step), dict(figures)) for step, figures in plain["curve"]]
        record = TrialRecord(**plain)
        if record.number != number or record.state not in get_args(TrialState):
            raise ValueError(f"trial {record.number} is {record.state!r}")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(
            f"{place} is missing or damaged ({error}); put it back as it was, or begin another "
            "sweep, with --warm-start and the trials of this one"
        ) from error
    return record


def _place(uri: str, number: int) -> str:
    return storage.join(uri, f"{TRIALS}/{number:05d}.json")
