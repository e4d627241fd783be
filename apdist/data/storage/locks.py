"""A lock between processes of machines that share a disk; the kernel takes it back at their end."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
"""What a file system without locks answers."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for others; it is removed at the end.

    Where the file system has no locks, nobody waits.
    """
    file = _opened(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: who waits sees that, and looks again
        os.close(file)


def lock(file: int, *, wait: bool) -> None:
    """Lock an open file or folder until it is closed.

    Raises:
        BlockingIOError: another process has the lock, and ``wait`` is not asked for.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise


def _opened(path: Path) -> int:
    """The file at ``path``, locked while it still has that name."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        lock(file, wait=True)
        try:
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except FileNotFoundError:  # its last holder has removed it
            pass
        os.close(file)
