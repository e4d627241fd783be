"""Open, list, read and write files by URI: local paths, ``s3://bucket/key``, ``https://`` to read.

Credentials and endpoint come from boto3's usual chain (``AWS_ENDPOINT_URL`` for MinIO, Ceph,
SeaweedFS, R2). Whatever fails on the way is tried again until the deadline of `RetryPolicy`, and a
read that breaks off is resumed at the byte it reached.
"""

import io
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from apdist.data.storage import s3
from apdist.data.storage.errors import MissingError, RangeError, StorageError, shown
from apdist.data.storage.resuming import ResumingReader

BLOCK_BYTES = 1 << 20
_WEB = ("https://", "http://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(uri: str) -> bool:
    """Whether ``uri`` lies on a server and not in the file system.

    Raises:
        StorageError: it names a kind of server that is not known.
    """
    if uri.startswith(("s3://", *_WEB)):
        return True
    if found := _SCHEME.match(uri):
        raise StorageError(
            f"{found[0]} is not known (in {uri!r}); use s3:// (AWS_ENDPOINT_URL for other "
            "providers), https:// to read, or a local path"
        )
    return False


def join(root: str, name: str) -> str:
    """``name`` under ``root``; an absolute or remote ``name`` stays as it is."""
    if is_remote(name) or os.path.isabs(name):
        return name
    if root.startswith(_WEB):  # a query, such as a signature for the whole folder, stays behind
        parts = urlsplit(root)
        return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
    return f"{root.rstrip('/')}/{name}" if is_remote(root) else str(Path(root) / name)


def list_files(root: str, suffix: str = "") -> list[str]:
    """Names of the files directly under ``root`` that end with ``suffix``, sorted."""
    if is_remote(root):
        _refuse_web(root, "listing")
        return sorted(name for name in s3.list_names(root)[0] if name.endswith(suffix))
    return sorted(p.name for p in _entries(root) if p.is_file() and p.name.endswith(suffix))


def list_folders(root: str) -> list[str]:
    """Names of the folders directly under ``root``, sorted."""
    if is_remote(root):
        _refuse_web(root, "listing")
        return sorted(s3.list_names(root)[1])
    return sorted(p.name for p in _entries(root) if p.is_dir())


def is_empty(root: str) -> bool:
    """Whether nothing lies under ``root`` (a folder that does not exist is empty)."""
    if is_remote(root):
        _refuse_web(root, "listing")
        return s3.is_empty(root)
    return not Path(root).exists() or (Path(root).is_dir() and not _entries(root))


def exists(uri: str) -> bool:
    """Whether a file lies at ``uri``."""
    if not is_remote(uri):
        return Path(uri).is_file()
    try:
        size_and_etag(uri)
    except MissingError:
        return False
    return True


def size_and_etag(uri: str) -> tuple[int, str]:
    """Size in bytes and ETag (empty for a local file)."""
    if not is_remote(uri):
        with _explained(uri):
            return Path(uri).stat().st_size, ""
    # A GET, as an address may be signed for nothing else, and an error then says what is missing.
    try:
        return _asked(uri, size=1)
    except RangeError:  # it is empty
        return _asked(uri, size=-1)


def read_bytes(uri: str) -> bytes:
    """The whole file."""
    if is_remote(uri):
        with ResumingReader(uri) as reader:
            return reader.readall()
    with _explained(uri):
        return Path(uri).read_bytes()


def read_range(uri: str, offset: int, size: int, etag: str = "") -> bytes | bytearray:
    """``size`` bytes from ``offset``.

    Raises:
        StorageError: missing, not allowed, shorter than expected, or changed (another ``etag``).
    """
    if size == 0:
        return b""
    block: bytes | bytearray
    if not is_remote(uri):
        with _explained(uri), open(uri, "rb") as file:
            block = os.pread(file.fileno(), size, offset)
    else:
        with ResumingReader(uri, offset=offset, size=size, etag=etag) as reader:
            block = bytearray(size)  # all at once: pieces put together would take it twice
            del block[reader.readinto(block) :]
    if len(block) != size:
        raise RangeError(
            f"{shown(uri)} ends {size - len(block)} bytes early (wanted {size} bytes at {offset}); "
            "the shard was truncated or replaced: prepare or index the data again"
        )
    return block


def open_stream(uri: str, offset: int = 0, etag: str = "") -> IO[bytes]:
    """A readable binary stream from ``offset`` on; ``etag`` as in `read_range`."""
    if is_remote(uri):
        return io.BufferedReader(ResumingReader(uri, offset=offset, etag=etag), BLOCK_BYTES)
    with _explained(uri):
        file = open(uri, "rb")  # noqa: SIM115 - the caller closes it
        file.seek(offset)
        return file


def write_bytes(uri: str, data: bytes) -> None:
    """Write ``data`` whole or not at all."""
    if is_remote(uri):
        _refuse_web(uri, "writing")
        s3.write(uri, len(data), lambda offset, size: data[offset : offset + size])
        return
    with local_target(uri) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            raise StorageError(
                f"{uri} cannot be written ({error.strerror}); make room there, or choose another "
                "folder that you may write to"
            ) from error


def remove(uri: str) -> None:
    """Delete the file at ``uri`` if there is one."""
    if is_remote(uri):
        _refuse_web(uri, "deleting")
        s3.remove(uri)
        return
    path = Path(uri)
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()  # as in object storage, a folder is there as long as a file is


@contextmanager
def local_target(uri: str) -> Iterator[Path]:
    """A temporary local path whose file becomes ``uri`` when the block ends without an error."""
    _refuse_web(uri, "writing")
    folder = Path(tempfile.gettempdir()) if is_remote(uri) else Path(uri).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); check the path") from error
    temporary = folder / f".{Path(uri).name}.{os.getpid()}.{random.getrandbits(32):08x}.tmp"
    try:
        yield temporary
        if is_remote(uri):
            s3.write(uri, temporary.stat().st_size, _reader_of(temporary))
        else:
            temporary.replace(uri)
    finally:
        temporary.unlink(missing_ok=True)


def ray_filesystem(uri: str) -> Any:
    """The pyarrow file system that Ray should write checkpoints to ``uri`` with.

    pyarrow's own S3FileSystem forgets its retry strategy when it is pickled to the controller
    (apache/arrow#47348), so that an outage of seconds ends a run; this one keeps it.
    """
    if not is_remote(uri):
        return None
    _refuse_web(uri, "writing")
    from apdist.data.storage.s3_filesystem import retrying_s3

    return retrying_s3()


def _asked(uri: str, size: int) -> tuple[int, str]:
    with ResumingReader(uri, size=size) as reader:
        reader.connect()
        return reader.file_bytes, reader.etag


def _refuse_web(uri: str, what: str) -> None:
    if uri.startswith(_WEB):
        raise StorageError(
            f"{shown(uri)}: {what} is not possible over http, which serves to read files whose "
            "names are known; use s3:// or a local path"
        )


def _entries(root: str) -> list[Path]:
    return list(Path(root).iterdir()) if Path(root).is_dir() else []


def _reader_of(path: Path) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    return read


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist; check the path") from error
    except PermissionError as error:
        raise StorageError(f"{path}: permission denied") from error
