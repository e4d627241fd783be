"""An export's folder: made aside, and in its place whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

from apdist.data import storage
from apdist.data.storage.local import unwritable


def refuse_occupied(out: str) -> None:
    """Refuse to write where something lies at ``out``.

    Raises:
        ValueError: something does.
    """
    path = storage.local_path(out)
    if path is not None and path.is_file():
        raise ValueError(f"{out} is a file; expected a new or empty folder; give another --out")
    if not storage.is_empty(out):
        raise ValueError(f"{out} is not empty; choose another --out, or remove it first")


def place(folder: Path, out: str) -> None:
    """Bring the files of ``folder`` to ``out``, a folder on a disk or a prefix of a bucket.

    Raises:
        ValueError: something lies there by now.
        StorageError: it cannot be written.
    """
    refuse_occupied(out)
    path = storage.local_path(out)
    if path is None:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            name = file.relative_to(folder).as_posix()
            with storage.local_target(storage.join(out, name)) as target:
                shutil.copyfile(file, target)
        return
    beside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        try:
            _copy(folder, beside)
        except OSError as error:
            raise unwritable(out, error) from error
        if path.is_dir():
            path.rmdir()  # empty, or another export came first: then this says so
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _copy(folder: Path, target: Path) -> None:
    """Copy what is in it, for all whom the umask lets read: ``folder`` is of this account alone."""
    target.mkdir(parents=True)
    for source in sorted(folder.rglob("*")):  # a folder before what is in it
        copy = target / source.relative_to(folder)
        if source.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(source, copy)
