"""Files on the disks of this machine."""

import errno
import os
import random
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from unicodedata import normalize

from apdist.data.storage.errors import MissingError, StorageError
from apdist.data.storage.store import Store, Version

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of the errors of a disk, a quota or a limit that is full."""
ELSEWHERE = "make room there, or choose another folder that you may write to"


class LocalStore(Store):
    """Local paths, absolute or relative."""

    address = "a local path"

    def local_path(self, uri: str) -> Path | None:
        """The path itself."""
        return Path(uri)

    def join(self, root: str, name: str) -> str:
        """``name`` in ``root``."""
        return str(Path(root) / name)

    def version(self, uri: str) -> Version:
        """Size and time of the last change."""
        with _explained(uri):
            found = os.stat(uri)
        if not stat.S_ISREG(found.st_mode):
            raise MissingError(f"{uri} is no file; check the path")
        return Version(found.st_size, "", found.st_mtime_ns)

    def read_range(self, uri: str, offset: int, size: int, etag: str) -> bytes:
        """``size`` bytes from ``offset``, or fewer at the end of the file."""
        del etag
        with _explained(uri), open(uri, "rb") as file:
            return os.pread(file.fileno(), size, offset)

    def open_stream(self, uri: str, offset: int, etag: str) -> IO[bytes]:
        """The open file, from ``offset`` on."""
        del etag
        with _explained(uri):
            file = open(uri, "rb")  # noqa: SIM115 - the caller closes it
        if offset:  # a pipe, as of `--token-file <(...)`, is read from its beginning
            file.seek(offset)
        return file

    def list_names(self, root: str) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders in ``root``."""
        entries = list(Path(root).iterdir()) if Path(root).is_dir() else []
        files = [entry.name for entry in entries if entry.is_file()]
        return files, [entry.name for entry in entries if entry.is_dir()]

    def is_empty(self, root: str) -> bool:
        """Whether ``root`` is an empty folder or does not exist."""
        path = Path(root)
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))

    def write(self, uri: str, data: bytes) -> None:
        """Write a file beside ``uri``, which then takes its place."""
        with _written_beside(uri, data) as temporary:
            self.upload(uri, temporary)

    def create(self, uri: str, data: bytes) -> bool:
        """Write a file beside ``uri``, which then gets that name too, if it is free."""
        with _written_beside(uri, data) as temporary:
            try:
                os.link(temporary, uri)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links: others may see it half written
                return _created(uri, data)
        return True

    def upload(self, uri: str, file: Path) -> None:
        """Move ``file``, which lies on the same disk."""
        file.replace(uri)

    def remove(self, uri: str) -> None:
        """Delete the file; as in object storage, a folder is there as long as a file is."""
        path = Path(uri)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        with suppress(OSError):  # not empty, a mount, the current folder, or not ours to remove
            path.parent.rmdir()

    def remove_unfinished(self, root: str) -> None:
        """Delete temporary files."""
        for path in Path(root).rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def for_ray(self, uri: str) -> tuple[str, None]:
        """The absolute path: workers run in other folders."""
        return os.path.abspath(uri), None


def _created(uri: str, data: bytes) -> bool:
    try:
        with open(uri, "xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


@contextmanager
def _written_beside(uri: str, data: bytes) -> Iterator[Path]:
    with temporary_in(Path(uri).parent, Path(uri).name) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            raise unwritable(uri, error) from error
        yield temporary


def unwritable(uri: str, error: OSError, remedy: str = ELSEWHERE) -> StorageError:
    """A file that cannot be written, with the reason and the remedy."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StorageError(f"{uri} cannot be written ({reason}); {remedy}")


def unreadable(uri: str) -> StorageError:
    """A file that this account may not read, with the remedy."""
    return StorageError(
        f"{uri} cannot be read (permission denied); let this account read it and enter its folders"
    )


@contextmanager
def room_explained(place: str | Path, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Inside, an error of a full disk becomes one that names the ``place`` and the ``remedy``."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise unwritable(str(place), error, remedy) from error


@contextmanager
def temporary_in(folder: Path, name: str) -> Iterator[Path]:
    """A path in ``folder``, which is made, that nobody else uses; a file there goes at the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); check the path") from error
    temporary = folder / f".{name}.{os.getpid()}.{random.getrandbits(32):08x}.tmp"
    try:
        with room_explained(folder / name):
            yield temporary
    finally:
        with suppress(OSError):  # a read-only disk refuses to remove what is not there, too
            temporary.unlink(missing_ok=True)


def missing_folders(path: Path) -> list[Path]:
    """``path`` and the folders above it that are not there, innermost first."""
    whole = Path(os.path.abspath(path))
    return [here for here in (whole, *whole.parents) if not os.path.lexists(here)]


def path_hint(path: str | Path) -> str:
    """What may be meant by a path at which nothing lies; empty where nothing comes to mind."""
    text = str(path)
    if "\\" in text:
        drive = re.search(r"(?:^|/)[A-Za-z]:\\", text)
        return "; paths have / here in place of \\" + (
            ", and a drive has another place, as /mnt/c" if drive else ""
        )
    if os.path.islink(text) and not os.path.exists(text):
        return "; it is a link that leads nowhere"
    whole = Path(os.path.abspath(text))
    missing = next((p for p in reversed((whole, *whole.parents)) if not p.exists()), whole)
    if not missing.parent.is_dir() or not os.access(missing.parent, os.R_OK):
        return ""
    for name in sorted(os.listdir(missing.parent)):
        if name == missing.name:  # a link in the way that leads nowhere
            return f"; {name!r} in it is a link that leads nowhere"
        if normalize("NFC", name) == normalize("NFC", missing.name):
            return f"; {name!r} is there, in another Unicode normal form"
        if name.casefold() == missing.name.casefold():
            return f"; {name!r} is there, with other capitals"
    return ""


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        advice = path_hint(path) or "; check the path"
        raise MissingError(f"{path} does not exist{advice}") from error
    except PermissionError as error:
        raise unreadable(path) from error
