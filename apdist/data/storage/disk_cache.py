"""A disk cache of whole shards, shared by the processes of a machine and bounded in size.

Only a finished shard has its own name. One that is being fetched is called ``*.part`` and locked by
the process that fetches it, so that what a crash leaves is recognised.
"""

import errno
import fcntl
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from apdist.data import storage
from apdist.data.storage import StorageError

logger = logging.getLogger(__name__)

COPY_BYTES = 1 << 20
NUM_LOCKS = 256
"""Lock files; a shard has one of them, so that they need not be deleted."""
LONGEST_NAME = 80
"""Characters of a shard's own name that the name of its file ends with."""


@dataclass(frozen=True, kw_only=True)
class CacheCounters:
    """What a cache has done in this process."""

    hits: int = 0
    """Reads from a shard that was there."""
    misses: int = 0
    """Reads that had to fetch their shard first."""
    direct: int = 0
    """Reads past the cache: the shard does not fit, or the disk is full."""
    evicted: int = 0
    """Shards removed to make room."""


class ShardCache:
    """Whole shards on a local disk, the least recently used removed first.

    Args:
        folder: where they lie; made if it is not there. Several processes may share it.
        limit_bytes: most bytes of all files in it.

    Raises:
        ValueError: the limit is not positive.
        StorageError: the folder cannot be made.
    """

    def __init__(self, folder: str, limit_bytes: int) -> None:
        if limit_bytes <= 0:
            raise ValueError(f"the limit of the cache must be positive, got {limit_bytes} bytes")
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self.is_full = False
        """Whether nothing more is to be fetched into it."""
        self.warned = False
        self.too_large: set[str] = set()
        self.counts = {"hits": 0, "misses": 0, "direct": 0, "evicted": 0}
        self.counting = threading.Lock()
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the cache's folder {folder} cannot be made ({error.strerror}); check the path"
            ) from error

    def counters(self) -> CacheCounters:
        """A snapshot of the counters."""
        with self.counting:
            return CacheCounters(**self.counts)

    def read_range(self, uri: str, offset: int, size: int, etag: str = "") -> bytes | bytearray:
        """``size`` bytes from ``offset`` of a shard, which is fetched whole if it is not there.

        Raises:
            StorageError: as `storage.read_range`.
        """
        if storage.local_path(uri) is not None:
            return storage.read_range(uri, offset, size, etag)
        path = self.folder / file_name(uri, etag)
        block: bytes | bytearray | None = _read(path, offset, size)
        outcome = "hits"
        if block is None and self._fetch(uri, etag, path):
            block, outcome = _read(path, offset, size), "misses"
        if block is None:
            block, outcome = storage.read_range(uri, offset, size, etag), "direct"
        self._count(outcome)
        return block

    def _fetch(self, uri: str, etag: str, path: Path) -> bool:
        """Bring the shard to ``path``; whether it is there now."""
        if self.is_full or path.name in self.too_large:
            return False
        try:
            with _locked(self.folder / "locks" / str(int(path.name[:8], 16) % NUM_LOCKS)):
                return self._fetch_locked(uri, etag, path)
        except StorageError:
            raise
        except OSError as error:  # full, another user's, without locks, or removed meanwhile
            self.is_full = True
            self._warn(f"the disk refuses ({error.strerror})")
            return False

    def _fetch_locked(self, uri: str, etag: str, path: Path) -> bool:
        if path.exists():  # another process, or thread, has fetched it meanwhile
            return True
        size = storage.version(uri).size
        if size > self.limit_bytes:
            self.too_large.add(path.name)
            self._warn(f"{path.name} has {size} bytes, the limit is {self.limit_bytes} bytes")
            return False
        return self._copy(uri, etag, path, size)

    def _copy(self, uri: str, etag: str, path: Path, size: int) -> bool:
        part = path.with_name(f"{path.name}.part")
        with self._reserved(part, size) as file:
            if file < 0:
                return False
            with storage.open_stream(uri, etag=etag) as stream:
                written = 0
                while block := stream.read(COPY_BYTES):
                    written += os.pwrite(file, block, written)
            if written != size:
                raise StorageError(
                    f"{storage.shown(uri)} was replaced while it was read: "
                    f"{written} bytes instead of {size}; prepare or index the data again"
                )
            os.fsync(
                file
            )  # or a power failure could leave a file of the right size without content
            with _locked(self.folder / "locks" / "room"):  # who counts sees it once
                part.rename(path)
        return True

    @contextmanager
    def _reserved(self, part: Path, size: int) -> Iterator[int]:
        """An open file that holds its space on the disk and is locked; -1 where there is none."""
        file = -1
        try:
            with _locked(self.folder / "locks" / "room"):
                if self._make_room(size):
                    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                    fcntl.flock(file, fcntl.LOCK_EX)
                    _allocate(file, size)
            yield file
        finally:
            if file >= 0:
                part.unlink(missing_ok=True)  # gone already if all went well
                os.close(file)

    def _make_room(self, size: int) -> bool:
        """Remove what was used longest ago until ``size`` bytes more fit; whether they do."""
        entries = _entries(self.folder)
        total = sum(stat.st_size for _, stat in entries)
        for path, stat in entries:
            is_part = path.suffix == ".part"
            if (is_part and _is_left_over(path)) or (
                not is_part and total + size > self.limit_bytes
            ):
                path.unlink(missing_ok=True)
                total -= stat.st_size
                self._count("evicted", 0 if is_part else 1)
        return total + size <= self.limit_bytes

    def _warn(self, reason: str) -> None:
        if not self.warned:
            self.warned = True
            logger.warning("cache %s: %s; reading past it", self.folder, reason)

    def _count(self, name: str, number: int = 1) -> None:
        with self.counting:
            self.counts[name] += number


def file_name(uri: str, etag: str) -> str:
    """The file's name: a hash of address and version, and the shard's name for people."""
    digest = hashlib.sha256(f"{uri}\n{etag}".encode()).hexdigest()[:32]
    readable = re.sub(r"[^\w.-]", "_", storage.shown(uri).partition("://")[2])
    return f"{digest}-{readable[-LONGEST_NAME:]}"


def _read(path: Path, offset: int, size: int) -> bytes | None:
    """A range of a cached shard, which counts as used now; nothing if it is not there, or cut."""
    try:
        with path.open("rb") as file:
            block = os.pread(file.fileno(), size, offset)
            with suppress(PermissionError):  # another user's: its time stays
                os.utime(file.fileno())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    if len(block) != size:
        path.unlink(missing_ok=True)  # damaged from outside, or read beyond its end: ask the server
        return None
    return block


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files of the cache, least recently used first."""
    entries = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a download that failed removes its own
            if path.is_file():
                entries.append((path, path.stat()))
    return sorted(entries, key=lambda entry: entry[1].st_mtime_ns)


def _is_left_over(part: Path) -> bool:
    """Whether nobody writes this file any more: the lock ends with the process that held it."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _allocate(file: int, size: int) -> None:
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(file, size)  # it counts against the limit, if not against the disk


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
