"""Open, list, read and write files by address, whatever store they lie in (`registry.py`).

Whatever fails on the way to a server is tried again until the deadline of `RetryPolicy`, and a read
that breaks off is resumed at the byte it reached.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from apdist.addresses import shown
from apdist.data.storage.errors import MissingError, RangeError
from apdist.data.storage.local import temporary_in, unwritable
from apdist.data.storage.registry import full_store_of, store_of
from apdist.data.storage.store import Store, Version, trimmed


def local_path(uri: str) -> Path | None:
    """Where other programs on this machine find the file; None: it lies on a server.

    Raises:
        StorageError: ``uri`` names a kind of store that is not known.
    """
    return store_of(uri).local_path(uri)


def is_read_only(uri: str) -> bool:
    """Whether files there can only be read by name: not listed, written or removed."""
    return not isinstance(store_of(uri), Store)


def join(root: str, name: str) -> str:
    """``name`` under ``root``; an absolute ``name``, or one with a scheme, stays as it is."""
    if local_path(name) is None or os.path.isabs(name):
        return name
    return store_of(root).join(root, name)


def absolute(uri: str) -> str:
    """``uri`` independent of the current folder, without a slash at its end."""
    path = local_path(uri)
    return os.path.abspath(path) if path is not None else trimmed(uri)


def list_files(root: str, suffix: str = "") -> list[str]:
    """Names of the files directly under ``root`` that end with ``suffix``, sorted."""
    files, _ = full_store_of(root, "listing").list_names(root)
    return sorted(name for name in files if name.endswith(suffix))


def list_folders(root: str) -> list[str]:
    """Names of the folders directly under ``root``, sorted."""
    _, folders = full_store_of(root, "listing").list_names(root)
    return sorted(folders)


def is_empty(root: str) -> bool:
    """Whether nothing lies under ``root`` (a folder that does not exist is empty)."""
    return full_store_of(root, "listing").is_empty(root)


def exists(uri: str) -> bool:
    """Whether a file lies at ``uri``."""
    try:
        version(uri)
    except MissingError:
        return False
    return True


def absence(uri: str) -> str:
    """In what way no file `exists` at ``uri``, for a message."""
    path = local_path(uri)
    if path is not None and path.is_dir():
        return "is a folder, where a file is expected"
    return "does not exist"


def version(uri: str) -> Version:
    """Size and ETag of the file; where there is no ETag, the time of its last change."""
    return store_of(uri).version(uri)


def read_bytes(uri: str) -> bytes:
    """The whole file."""
    with open_stream(uri) as stream:
        return stream.read()


def read_range(uri: str, offset: int, size: int, etag: str = "") -> bytes | bytearray:
    """``size`` bytes from ``offset``.

    Raises:
        StorageError: missing, not allowed, shorter than expected, or changed (another ``etag``).
    """
    if size == 0:
        return b""
    block = store_of(uri).read_range(uri, offset, size, etag)
    if len(block) != size:
        raise RangeError(
            f"{shown(uri)} ends {size - len(block)} bytes early (wanted {size} bytes at {offset}); "
            "the shard was truncated or replaced: prepare or index the data again"
        )
    return block


def open_stream(uri: str, offset: int = 0, etag: str = "") -> IO[bytes]:
    """A readable binary stream from ``offset`` on; ``etag`` as in `read_range`."""
    return store_of(uri).open_stream(uri, offset, etag)


def write_bytes(uri: str, data: bytes) -> None:
    """Write ``data`` whole or not at all."""
    full_store_of(uri, "writing").write(uri, data)


def create(uri: str, data: bytes) -> bool:
    """Write ``data`` if no file lies at ``uri``; whether this call did, one of several that try."""
    return full_store_of(uri, "writing").create(uri, data)


def append_bytes(uri: str, data: bytes) -> bool:
    """Add ``data`` to the end of the file if it lies on a disk; whether it does."""
    path = local_path(uri)
    if path is None:
        return False  # object storage replaces whole files
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        raise unwritable(uri, error) from error
    return True


def remove(uri: str) -> None:
    """Delete the file at ``uri`` if there is one."""
    full_store_of(uri, "deleting").remove(uri)


def remove_unfinished(root: str) -> None:
    """Delete what processes have left under ``root`` that were killed while they wrote."""
    full_store_of(root, "deleting").remove_unfinished(root)


@contextmanager
def local_target(uri: str) -> Iterator[Path]:
    """A temporary local path whose file becomes ``uri`` when the block ends without an error."""
    store = full_store_of(uri, "writing")
    path = store.local_path(uri)
    folder = Path(tempfile.gettempdir()) if path is None else path.parent
    with temporary_in(folder, Path(uri).name) as temporary:
        yield temporary
        store.upload(uri, temporary)


def for_ray(uri: str) -> tuple[str, Any]:
    """Path and pyarrow file system by which Ray writes to ``uri``; None: the local one."""
    return full_store_of(uri, "writing").for_ray(uri)
