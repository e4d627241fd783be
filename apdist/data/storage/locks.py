"""What only one process may hold at a time, and who that is.

A lock is between processes of machines that share a disk; the kernel takes it back at their end.
A `Holder` is what a process writes of itself where there are no locks, in object storage.
"""

import errno
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Holder:
    """Who holds a lease; the content of its file."""

    token: str
    """Names the holder, and nobody else ever."""
    host: str
    machine: str
    """Equal where process ids mean the same."""
    pid: int
    started: str
    """When the process began, by its machine's count: a process id is used again."""
    since: str
    """For people: date and time, UTC."""
    renewals: int = 0
    released: bool = False

    def __str__(self) -> str:
        """As an error names it."""
        return f"process {self.pid} on {self.host} since {self.since}"


def myself() -> Holder:
    """This process as a holder."""
    return Holder(
        token=secrets.token_hex(16),
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    )


def this_machine() -> str:
    """Equal for processes that see each other by their ids: one kernel, one namespace of them."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if path.endswith("pid") else Path(path).read_text())
        except OSError:  # no Linux: the name has to do
            parts.append("")
    return "/".join(part.strip() for part in parts)


def has_ended(holder: Holder) -> bool:
    """Whether this machine knows that the holder's process is gone."""
    if holder.machine != this_machine():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and is another user's
        return False
    return _started(holder.pid) != holder.started or _is_zombie(holder.pid)


def _started(pid: int) -> str:
    """When the process began, in ticks since the machine's start; empty where nobody says."""
    try:
        # The name of the program, in brackets, may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_zombie(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "Z"
