"""Read the files of an index: on a disk they are mapped into memory, not read.

Shapes: n images, d descriptor size.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from apdist.data import storage
from apdist.retrieval.approximate.faiss_index import read_faiss
from apdist.retrieval.approximate.importing import has_faiss
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.stored.folder import (
    ABOUT_FILES,
    BUILD_AGAIN,
    DESCRIPTORS,
    ENTRIES,
    FAISS,
    SETTINGS,
    address,
    fingerprint,
    read_settings,
)

logger = logging.getLogger(__name__)

_CHECKED_BYTES = 256 << 20
"""Of larger files only the size is looked at, unless all is to be checked: it would be to read all
of what is mapped."""
_MOST_TRIES = 20


def read_index(root: str, *, check_all: bool = False) -> SearchIndex:
    """The index in the folder ``root``; where it is replaced meanwhile, the one in its place.

    Args:
        root: its address.
        check_all: compare the checksums of large files, too.

    Raises:
        ValueError: there is none, or a file is missing, damaged or of another format.
    """
    for left in reversed(range(_MOST_TRIES)):
        settings = read_settings(root)
        try:
            return _opened(root, settings, check_all)
        except (ValueError, OSError):
            if not left or read_settings(root)["generation"] == settings["generation"]:
                raise
    raise AssertionError


def _opened(root: str, settings: dict[str, Any], check_all: bool) -> SearchIndex:
    approximate = settings["kind"] != "exact"
    generation, files = str(settings["generation"]), settings["files"]

    def file(name: str) -> Any:
        return _checked(address(root, generation, name), files.get(name), check_all)

    with file(DESCRIPTORS) as path:
        descriptors = mapped(path)
    with file(ENTRIES) as path:
        entries = _entries(path)
    faiss_index = None
    if approximate:
        with file(FAISS) as path:
            faiss_index = read_faiss(path) if has_faiss() else None
    if approximate and faiss_index is None:
        logger.warning("%s: faiss does not import; searching exactly, which is slower", root)
    expected = (settings["count"], settings["dim"])
    if descriptors.shape != expected or entries.num_rows != expected[0]:
        raise ValueError(
            f"{root} is damaged: expected {expected[0]} descriptors of {expected[1]} numbers, got "
            f"{tuple(descriptors.shape)} and {entries.num_rows} entries; {BUILD_AGAIN}"
        )
    own = {name: value for name, value in settings.items() if name not in ABOUT_FILES}
    return SearchIndex(descriptors, entries, own, faiss_index)


def mapped(path: Path) -> Tensor:
    """Descriptors (n, d) of a file, which is read where they are used, and may be removed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            descriptors: Tensor = file.get_tensor("descriptors")
            return descriptors
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {BUILD_AGAIN}") from error


def _entries(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise ValueError(f"{path} is damaged ({error}); {BUILD_AGAIN}") from error


@contextmanager
def _checked(uri: str, expected: dict[str, int] | None, check_all: bool) -> Iterator[Path]:
    """The file at ``uri`` on this machine, as long as the block lasts, compared with what it was.

    Raises:
        ValueError: it is missing, or another one.
    """
    try:
        with _here(uri) as path:
            size = path.stat().st_size
            is_large = size > _CHECKED_BYTES and not check_all
            found = {"bytes": size} if is_large else fingerprint(path)
            wanted = expected or {}
            if found != {name: wanted.get(name) for name in found}:
                raise ValueError(f"{uri} is damaged: {_unlike(wanted, found)}; {BUILD_AGAIN}")
            yield path
    except (storage.MissingError, FileNotFoundError) as error:
        raise ValueError(f"{uri} is missing; {BUILD_AGAIN}") from error


def _unlike(wanted: dict[str, int], found: dict[str, int]) -> str:
    """What of a file is not as it was, in words."""
    if not wanted:
        return f"{SETTINGS} does not tell of it"
    if found["bytes"] != wanted.get("bytes"):
        return f"expected {wanted.get('bytes')} bytes, got {found['bytes']}"
    return f"expected the checksum {wanted.get('crc32')}, got {found['crc32']}"


@contextmanager
def _here(uri: str) -> Iterator[Path]:
    """A file by a path; one on a server is fetched to a temporary file."""
    path = storage.local_path(uri)
    if path is not None:
        yield path
        return
    file, name = tempfile.mkstemp(prefix="apdist-index-")
    try:
        with os.fdopen(file, "wb") as target, storage.open_stream(uri) as stream:
            shutil.copyfileobj(stream, target, 1 << 22)
        yield Path(name)
    finally:
        os.unlink(name)
