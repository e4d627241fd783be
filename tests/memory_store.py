"""A fourth store, as somebody might add one for GCS or Azure: one class, and a line in `STORES`."""

import hashlib
import io
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem

from apdist.data.storage.errors import MissingError, replaced
from apdist.data.storage.store import Store, Version, trimmed


class MemoryStore(Store):
    """``mem://`` addresses: files in the memory of this process."""

    address = "mem:// (gone when the process ends)"

    def __init__(self) -> None:
        self.files = MemoryFileSystem()

    def local_path(self, uri: str) -> Path | None:
        return None

    def join(self, root: str, name: str) -> str:
        return f"{trimmed(root)}/{name}"

    def version(self, uri: str) -> Version:
        data = self._read(uri, "")
        return Version(len(data), hashlib.md5(data).hexdigest())

    def read_range(self, uri: str, offset: int, size: int, etag: str) -> bytes:
        return self._read(uri, etag)[offset : offset + size]

    def open_stream(self, uri: str, offset: int, etag: str) -> IO[bytes]:
        return io.BytesIO(self._read(uri, etag)[offset:])

    def list_names(self, root: str) -> tuple[list[str], list[str]]:
        prefix = f"{_path(root)}/"
        below = [path[len(prefix) :] for path in self.files.store if path.startswith(prefix)]
        files = [name for name in below if "/" not in name]
        return files, list({name.partition("/")[0] for name in below if "/" in name})

    def is_empty(self, root: str) -> bool:
        return self.list_names(root) == ([], [])

    def write(self, uri: str, data: bytes) -> None:
        self.files.pipe_file(_path(uri), data)

    def create(self, uri: str, data: bytes) -> bool:
        if _path(uri) in self.files.store:
            return False
        self.write(uri, data)
        return True

    def upload(self, uri: str, file: Path) -> None:
        self.write(uri, file.read_bytes())

    def remove(self, uri: str) -> None:
        self.files.store.pop(_path(uri), None)

    def for_ray(self, uri: str) -> tuple[str, Any]:
        return _path(uri), PyFileSystem(FSSpecHandler(self.files))

    def _read(self, uri: str, etag: str) -> bytes:
        if _path(uri) not in self.files.store:
            raise MissingError(f"{uri} does not exist; check the path")
        data: bytes = self.files.store[_path(uri)].getvalue()
        if etag and etag != hashlib.md5(data).hexdigest():
            raise replaced(uri)
        return data


def _path(uri: str) -> str:
    return f"/{trimmed(uri).removeprefix('mem://')}"
