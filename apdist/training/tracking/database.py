"""A sqlite database for MLflow: made whole or not at all, by one of several that want it."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from apdist.data.storage.locks import locked

T = TypeVar("T")

_MAGIC = b"SQLite format 3\0"
LOCKED_WAIT_S = 60.0
"""Seconds for which a database that others write to is asked again."""


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite store; None for every other."""
    if not uri.startswith("sqlite:///"):
        return None
    name = uri.removeprefix("sqlite:///").partition("?")[0]
    if "%" in name:  # loaded for these alone: it takes a quarter of a second
        from sqlalchemy.engine import make_url  # as MLflow reads it; its version decides on %20

        name = make_url(uri).database or ""
    return None if not name or name == ":memory:" else Path(name)


def refuse_unusable(uri: str, remedy: str = "correct it, or use --tracking.no-enabled") -> None:
    """Return unless ``uri`` is a sqlite store that cannot be one, by a look at its file.

    Raises:
        ValueError: its folder is not there, or its file is of another kind.
    """
    path = sqlite_path(uri)
    if path is None:
        return
    if not path.parent.is_dir():
        raise ValueError(f"tracking.uri {uri}: {_no_folder(path, uri)}; {remedy}")
    if path.is_dir() or (_is_made(path) and not _is_sqlite(path)):
        raise ValueError(f"tracking.uri {uri}: {path} is no sqlite database; {remedy}")


def make_database(uri: str, client: Callable[[str], Any]) -> None:
    """Make the sqlite database of ``uri`` if it is not there.

    MLflow makes its tables one by one, and its dozens of migrations are no transaction: a second
    process that comes meanwhile is refused, and what a kill leaves is never finished. So they are
    made in a file of another name, which then gets its own.

    Args:
        uri: tracking store.
        client: makes MLflow's client of a store, and the tables with it.
    """
    path = sqlite_path(uri)
    if path is None or _is_made(path):
        return
    if not path.parent.is_dir():  # MLflow would try for minutes
        raise ValueError(_no_folder(path, uri))
    with locked(path.with_name(f".{path.name}.lock")):
        if _is_made(path):
            return
        part = path.with_name(f".{path.name}.part")
        _remove(part)  # of a process that was killed
        try:
            client(f"sqlite:///{quote(str(part))}")
            part.replace(path)
        finally:
            _remove(part)


def remove_if_unused(uri: str, run_id: str, experiment: str) -> None:
    """Remove the sqlite database of ``uri`` where nothing was ever kept in it but a refused run.

    Args:
        uri: tracking store.
        run_id: the run.
        experiment: its experiment.
    """
    path = sqlite_path(uri)
    if path is None or not _is_made(path):
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")  # who makes a run now waits, and then looks again
        runs = {name for (name,) in database.execute("SELECT run_uuid FROM runs")}
        experiments = {name for (name,) in database.execute("SELECT name FROM experiments")}
        others = [
            database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608
            for table in ("registered_models", "trace_info")
        ]
        if runs <= {run_id} and experiments <= {"Default", experiment} and not any(others):
            _remove(path)


def identity(uri: str) -> tuple[int, int]:
    """Tells the file of a sqlite store from another one of its name; zeros for other stores."""
    path = sqlite_path(uri)
    there = os.stat(path) if path is not None and path.exists() else None
    return (there.st_dev, there.st_ino) if there else (0, 0)


def patient(work: Callable[[], T]) -> T:
    """The result of ``work``, tried again while another process keeps the database locked."""
    deadline = time.monotonic() + LOCKED_WAIT_S
    while True:
        try:
            return work()
        except Exception as error:
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _is_made(path: Path) -> bool:
    """Whether there is more than an empty file, which is a database without tables."""
    return path.exists() and path.stat().st_size > 0


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _no_folder(path: Path, uri: str) -> str:
    hint = "; a % in an address is written %25" if "%" in uri else ""
    return f"{path.parent} is no folder{hint}"


def _remove(part: Path) -> None:
    for name in (part.name, f"{part.name}-journal", f"{part.name}-wal", f"{part.name}-shm"):
        part.with_name(name).unlink(missing_ok=True)
