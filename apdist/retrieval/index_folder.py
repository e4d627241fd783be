"""The folder of an index while it is written: claimed before the work, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from apdist.data.storage.local import missing_folders
from apdist.data.storage.locks import lock

SETTINGS = "index.json"
"""Written last: a folder without it is no index, whatever else lies there."""
DESCRIPTORS = "descriptors.safetensors"
ENTRIES = "entries.parquet"
FAISS = "index.faiss"
_PARTS = {DESCRIPTORS, ENTRIES, FAISS, f"{SETTINGS}.part"}


@contextmanager
def claimed(folder: str | Path) -> Iterator[Path]:
    """The folder of a new index, which nobody else writes meanwhile; made if it is not there.

    The folder itself stays in its place: it may be a link, a mount, or somebody's current folder.
    Where the block fails, nothing is left in it, nor the folder if it was made here.

    Raises:
        ValueError: something lies there, another process writes there, or nobody may.
    """
    path = Path(os.path.abspath(folder))
    made = missing_folders(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _lock(file, folder)
        _refuse_if_taken(path, folder)
        _try_writing(path, folder)
        try:
            yield path
        except BaseException:
            for name in (SETTINGS, *_PARTS):
                (path / name).unlink(missing_ok=True)
            for empty in made:
                with suppress(OSError):
                    empty.rmdir()
            raise
    finally:
        os.close(file)


def _lock(file: int, folder: str | Path) -> None:
    try:
        lock(file, wait=False)
    except BlockingIOError as error:
        raise ValueError(
            f"{folder} is being written by another process; wait for it, or give another --out"
        ) from error


def _refuse_if_taken(path: Path, folder: str | Path) -> None:
    there = set(os.listdir(path))
    if there and not there <= _PARTS:  # the parts alone are of a writer that was killed
        raise ValueError(
            f"{folder} exists and is not empty; give another --out, or remove it first"
        )


def _try_writing(path: Path, folder: str | Path) -> None:
    try:
        (path / f"{SETTINGS}.part").write_bytes(b"")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: str | Path, error: OSError) -> ValueError:
    return ValueError(
        f"{folder} cannot be written ({(error.strerror or str(error)).lower()}); give another "
        "--out, a folder that you may write to"
    )
