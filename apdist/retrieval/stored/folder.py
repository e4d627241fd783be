"""The folder of an index, on a disk or in object storage: generations of its files.

    index.json                      what the index is; names the generation that holds
    generation-<16 hex digits>/     entries.parquet, descriptors.safetensors and, where faiss
                                    searches, index.faiss

The files of a generation never change. A writer makes a new one beside it, then index.json, whole
or not at all, then removes the old one. So who reads sees all of the old or all of the new, and a
writer that is killed leaves the old as it was; what it left beside, the next writer removes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.preparing.claim import CLAIM, claimed_as_it_is
from apdist.data.storage.local import missing_folders, room_explained
from apdist.data.storage.locks import lock
from apdist.given import Place, place_of

logger = logging.getLogger(__name__)

SETTINGS = "index.json"
"""Written last: a folder without it is no index, whatever else lies there."""
DESCRIPTORS = "descriptors.safetensors"
ENTRIES = "entries.parquet"
FAISS = "index.faiss"
FORMAT, FORMAT_VERSION = "apdist.index", 2
BUILD_AGAIN = "build the index again with `apdist index`"
ABOUT_FILES = ("format", "format_version", "generation", "files")
"""What index.json says of the files, beside the settings of the index."""
Purpose = Literal["new", "overwrite", "change"]
"""Into an empty folder; in place of the index that may lie there; or of one that has to."""
_GENERATION = re.compile(r"generation-[0-9a-f]{16}")
_PART = re.compile(rf"\.{re.escape(SETTINGS)}\..*\.tmp")
_UNFINISHED = re.compile(rf"{_PART.pattern}|\.?{re.escape(CLAIM)}.*")
_BYTES_PER_READ = 1 << 22


@dataclass
class Generation:
    """Files of an index that are being written."""

    root: str
    """Address of the index's folder."""
    name: str
    path: Path
    """Where the files are made, on this machine."""
    is_committed: bool = False

    def commit(self, settings: dict[str, Any]) -> None:
        """Let the files be the index from now on, and remove those that were it before.

        Raises:
            StorageError: they cannot be written; then the index is what it was.
        """
        names = sorted(file.name for file in self.path.iterdir())
        files = {name: fingerprint(self.path / name) for name in names}
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, **settings}
        about = {**header, "generation": self.name, "files": files}
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        if storage.local_path(self.root) is None:
            for name in names:
                with storage.local_target(address(self.root, self.name, name)) as target:
                    (self.path / name).replace(target)
        storage.write_bytes(storage.join(self.root, SETTINGS), text.encode())
        self.is_committed = True
        try:
            remove_others(self.root, self.name)
        except OSError as error:  # the next writer will
            logger.warning("%s: old files are left (%s)", self.root, error)


@contextmanager
def claimed(folder: Place, purpose: Purpose = "new") -> Iterator[Generation]:
    """A new generation of an index, which nobody else writes meanwhile.

    The folder is made if it is not there. It stays in its place: it may be a link, a mount, or
    somebody's current folder. Where the block fails, it is left as it was, or gone if it was made.

    Raises:
        ValueError: what lies there does not suit the purpose, another process writes there, or
            nobody may.
    """
    root = storage.absolute(place_of("folder", folder))
    path = storage.local_path(root)
    with _held(path, folder) if path is not None else claimed_as_it_is(root):
        there = _refuse_unfit(root, folder, purpose)
        _remove_unfinished(root)
        remove_others(root, there)
        with _made(root, path) as generation:
            yield generation


@contextmanager
def _made(root: str, path: Path | None) -> Iterator[Generation]:
    """A generation and its empty folder; both are gone at the end, unless it is committed."""
    name = f"generation-{secrets.token_hex(8)}"
    inside = Path(tempfile.mkdtemp(prefix="apdist-index-")) if path is None else path / name
    generation = Generation(root, name, inside)
    try:
        if path is not None:
            with _explained(root):
                inside.mkdir()
        with room_explained(inside if path is None else root):
            yield generation
    finally:
        if path is None or not generation.is_committed:
            shutil.rmtree(inside, ignore_errors=True)
        if path is None and not generation.is_committed:
            with suppress(storage.StorageError):  # the error that came first is the one to tell
                _remove(root, name)


@contextmanager
def _held(path: Path, folder: Place) -> Iterator[None]:
    """Hold a folder on a disk, made if it is not there."""
    made = missing_folders(path)
    with _explained(folder):
        path.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(file, folder)
        yield
    except BaseException:
        for empty in made:
            with suppress(OSError):
                empty.rmdir()
        raise
    finally:
        os.close(file)


def _lock(file: int, folder: Place) -> None:
    try:
        lock(file, wait=False)
    except BlockingIOError as error:
        raise ValueError(
            f"{folder} is being written by another process; wait for it, or choose another folder"
        ) from error


def _refuse_unfit(root: str, folder: Place, purpose: Purpose) -> str:
    """The generation that is there, or an empty text; refused where it does not suit."""
    files = {name for name in storage.list_files(root) if not _UNFINISHED.fullmatch(name)}
    if SETTINGS in files:
        if purpose == "new":
            raise ValueError(
                f"{folder} holds an index already; replace it with --overwrite, add to it with "
                "`apdist index add`, or give another --out"
            )
        if purpose == "overwrite":
            with suppress(ValueError):  # damaged: all the more it is to be replaced
                return str(read_settings(root)["generation"])
            return ""
        return str(read_settings(root)["generation"])
    if purpose == "change":
        read_settings(root)  # says that there is none
    others = files | {n for n in storage.list_folders(root) if not _GENERATION.fullmatch(n)}
    if others:  # generations alone are of a writer that was killed
        raise ValueError(
            f"{folder} exists and is not empty; give another --out, or remove it first"
        )
    return ""


def read_settings(root: str) -> dict[str, Any]:
    """What index.json says.

    Raises:
        ValueError: there is none, it is damaged, or another version of apdist wrote it.
    """
    uri = storage.join(root, SETTINGS)
    try:
        settings = read_json(storage.read_bytes(uri).decode())
    except storage.MissingError as error:
        raise ValueError(
            f"{uri} does not exist: {root} is no index, or is still being written; {BUILD_AGAIN}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{uri} is damaged ({error}); {BUILD_AGAIN}") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise ValueError(f"{uri} does not describe an index of apdist; {BUILD_AGAIN}")
    if settings.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{uri} has format version {settings.get('format_version')}, this apdist reads "
            f"{FORMAT_VERSION}; {BUILD_AGAIN}"
        )
    missing = {"kind", "dim", "count", "model_id", "generation", "files"} - settings.keys()
    if missing:
        raise ValueError(f"{uri} is damaged: it lacks {', '.join(sorted(missing))}; {BUILD_AGAIN}")
    if not _GENERATION.fullmatch(str(settings["generation"])):
        raise ValueError(f"{uri} is damaged: it names no generation; {BUILD_AGAIN}")
    return settings


def address(root: str, generation: str, name: str) -> str:
    """Where a file of a generation lies."""
    return storage.join(storage.join(root, generation), name)


def fingerprint(path: Path) -> dict[str, int]:
    """Size and CRC32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BYTES_PER_READ):
            crc = zlib.crc32(block, crc)
    return {"bytes": path.stat().st_size, "crc32": crc}


def remove_others(root: str, kept: str) -> None:
    """Remove all generations but the one that is ``kept``."""
    for name in storage.list_folders(root):
        if _GENERATION.fullmatch(name) and name != kept:
            _remove(root, name)


def _remove_unfinished(root: str) -> None:
    """Remove what a writer left that was killed while it wrote index.json; nothing else."""
    path = storage.local_path(root)
    if path is None:
        storage.remove_unfinished(root)
        return
    for name in storage.list_files(root):
        if _PART.fullmatch(name):
            (path / name).unlink()  # `storage.remove` takes a folder that is left empty with it


def _remove(root: str, generation: str) -> None:
    """Remove the files of a generation, and its folder."""
    folder = storage.join(root, generation)
    path = storage.local_path(folder)
    if path is not None:
        shutil.rmtree(path)
        return
    for file in storage.list_files(folder):
        storage.remove(storage.join(folder, file))


@contextmanager
def _explained(folder: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({(error.strerror or str(error)).lower()}); give another "
            "--out, a folder that you may write to"
        ) from error
