"""The folder of a set while it is written: empty before, and one writer's own meanwhile."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from apdist.data import storage
from apdist.data.catalogue.catalogue import refuse_cut_off
from apdist.data.storage.errors import MissingError
from apdist.data.storage.local import missing_folders
from apdist.data.storage.locks import Holder, has_ended, myself, this_machine

CLAIM = ".writing.json"
"""Says who writes there; it is gone once the set is whole, and stays where a writer was killed."""


@contextmanager
def claimed(out: str) -> Iterator[None]:
    """Hold the empty folder or prefix ``out`` during the block; nobody else writes there meanwhile.

    Folders that are made for it go again where nothing was written.

    Raises:
        ValueError: something lies there, or another process writes there.
    """
    path = storage.local_path(out)
    if path is not None and path.is_file():
        raise ValueError(f"{out} is a file; choose a folder as --out")
    made = [] if path is None else missing_folders(path)
    claim, own = storage.join(out, CLAIM), json.dumps(asdict(myself())).encode()
    try:
        # On a disk as in object storage, only one of several can make it.
        if not storage.create(claim, own):
            raise ValueError(_taken(out, claim))
        _refuse_if_filled(out)
        yield
    finally:
        with suppress(MissingError):  # a signal may have come before it, or just after
            if storage.read_bytes(claim) == own:
                storage.remove(claim)
        for empty in made:
            with suppress(OSError):
                empty.rmdir()


def _refuse_if_filled(out: str) -> None:
    # Another process that is about to be refused has a file beside the claim for a moment.
    names = [name for name in storage.list_files(out) if not name.startswith(CLAIM)]
    others = [name for name in names if not name.startswith(f".{CLAIM}")]
    if others or storage.list_folders(out):
        refuse_cut_off(out)
        raise ValueError(f"{out} is not empty; choose another --out or remove it first")


def _taken(out: str, claim: str) -> str:
    """Why ``out`` cannot be written."""
    try:
        holder = Holder(**json.loads(storage.read_bytes(claim)))
    except (MissingError, ValueError, TypeError):  # gone in this moment, or no claim
        return f"{out} was being written by another process a moment ago; choose another --out"
    if has_ended(holder):
        return (
            f"{out} was being written by {holder}, which was cut off; what it left is of no use: "
            "remove the folder and prepare again"
        )
    elsewhere = holder.machine != this_machine()
    perhaps = " (if that process is no more, remove the folder first)" if elsewhere else ""
    return f"{out} is being written by {holder}; wait for its end, or choose another --out{perhaps}"
