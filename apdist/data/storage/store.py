"""What a store of files can do; `registry.py` says which addresses belong to which store."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Version:
    """What tells one version of a file from the next."""

    size: int
    """Bytes."""
    etag: str
    """Empty where the store has none, as on a local disk."""
    modified_ns: int = 0
    """Time of the last change where there is no ETag, else 0."""


@runtime_checkable
class ReadableStore(Protocol):
    """Files that are read by name. Every method takes whole addresses.

    What cannot be read raises `StorageError`, a file that is not there `MissingError`.
    """

    address: str
    """How its addresses look, as a user is told."""

    def local_path(self, uri: str) -> Path | None:
        """Where other programs on this machine find the file; None: nowhere."""

    def join(self, root: str, name: str) -> str:
        """Address of ``name`` in the folder ``root``."""

    def version(self, uri: str) -> Version:
        """The version of the file that is there now."""

    def read_range(self, uri: str, offset: int, size: int, etag: str) -> bytes | bytearray:
        """``size`` bytes from ``offset``, or fewer at the end of the file.

        Raises:
            StorageError: ``etag`` is not empty, the store has ETags, and that of the file differs.
        """

    def open_stream(self, uri: str, offset: int, etag: str) -> IO[bytes]:
        """A readable stream from ``offset`` on; ``etag`` as in `read_range`."""


@runtime_checkable
class Store(ReadableStore, Protocol):
    """Files that can be listed, written and removed as well."""

    def list_names(self, root: str) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders directly under ``root``, in any order."""

    def is_empty(self, root: str) -> bool:
        """Whether nothing lies under ``root``; a folder that does not exist is empty."""

    def write(self, uri: str, data: bytes) -> None:
        """Write a file whole or not at all, in place of the one that is there."""

    def create(self, uri: str, data: bytes) -> bool:
        """Write a file whole, if none is there; whether this call did.

        Of several that try at the same time one succeeds.
        """

    def upload(self, uri: str, file: Path) -> None:
        """As `write`, with the content of a local file, which may be moved."""

    def remove(self, uri: str) -> None:
        """Delete the file if it is there."""

    def remove_unfinished(self, root: str) -> None:
        """Delete what lies under ``root`` of files whose writing was broken off."""

    def for_ray(self, uri: str) -> tuple[str, Any]:
        """Path and pyarrow file system by which Ray writes to ``uri``; None: the local one."""


def trimmed(uri: str) -> str:
    """``uri`` without slashes at its end, other than those of ``scheme://``."""
    bare = uri.rstrip("/")
    return uri if not bare or bare.endswith(":") else bare
