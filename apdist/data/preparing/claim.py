"""The folder of a set while it is written: one writer's own, and as a rule empty before."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.catalogue.catalogue import refuse_cut_off
from apdist.data.storage.errors import MissingError
from apdist.data.storage.local import missing_folders
from apdist.data.storage.locks import Holder, has_ended, locked, myself, this_machine

CLAIM = ".writing.json"
"""Says who writes there; it is gone once the set is whole, and stays where a writer was killed."""


@contextmanager
def claimed(out: str) -> Iterator[None]:
    """Hold the empty folder or prefix ``out`` during the block; nobody else writes there meanwhile.

    Folders that are made for it go again where nothing was written.

    Raises:
        ValueError: something lies there, or another process writes there.
    """
    with _held(out, "remove the folder"):
        _refuse_if_filled(out)
        yield


@contextmanager
def claimed_as_it_is(out: str) -> Iterator[None]:
    """As `claimed`, whatever lies in ``out``; of a writer that was cut off it is taken over.

    Raises:
        ValueError: another process writes there.
    """
    claim = storage.join(out, CLAIM)
    _take_over(out, claim)
    with _held(out, f"remove {claim}"):
        yield


@contextmanager
def _held(out: str, remedy: str) -> Iterator[None]:
    path = storage.local_path(out)
    if path is not None and path.is_file():
        raise ValueError(f"{out} is a file; choose a folder as --out")
    made = [] if path is None else missing_folders(path)
    claim, own = storage.join(out, CLAIM), json.dumps(asdict(myself())).encode()
    try:
        # On a disk as in object storage, only one of several can make it.
        if not storage.create(claim, own):
            raise ValueError(_taken(out, claim, remedy))
        yield
    finally:
        with suppress(MissingError):  # a signal may have come before it, or just after
            if storage.read_bytes(claim) == own:
                storage.remove(claim)
        for empty in made:
            with suppress(OSError):
                empty.rmdir()


def _take_over(out: str, claim: str) -> None:
    """Remove the claim of a process of this machine that has ended."""
    place = hashlib.sha256(storage.absolute(out).encode()).hexdigest()[:16]
    # One at a time: between two looks, what was a dead writer's may have become a living one's.
    # Only processes of this machine can know that it is dead.
    with locked(Path(tempfile.gettempdir(), f".apdist-{place}.lock")):
        holder = _holder(claim)
        if holder is not None and has_ended(holder):
            storage.remove(claim)


def _holder(claim: str) -> Holder | None:
    """Who has made the claim; None where it is gone, or is none."""
    try:
        return Holder(**read_json(storage.read_bytes(claim)))
    except (MissingError, ValueError, TypeError):
        return None


def _refuse_if_filled(out: str) -> None:
    # Another process that is about to be refused has a file beside the claim for a moment.
    names = [name for name in storage.list_files(out) if not name.startswith(CLAIM)]
    others = [name for name in names if not name.startswith(f".{CLAIM}")]
    if others or storage.list_folders(out):
        refuse_cut_off(out)
        raise ValueError(f"{out} is not empty; choose another --out or remove it first")


def _taken(out: str, claim: str, remedy: str) -> str:
    """Why ``out`` cannot be written."""
    holder = _holder(claim)
    if holder is None:
        return f"{out} was being written by another process a moment ago; choose another --out"
    if has_ended(holder):
        return (
            f"{out} was being written by {holder}, which was cut off; what it left is of no use: "
            f"{remedy} and prepare again"
        )
    elsewhere = holder.machine != this_machine()
    perhaps = f" (if that process is no more, {remedy} first)" if elsewhere else ""
    return f"{out} is being written by {holder}; wait for its end, or choose another --out{perhaps}"
