"""What Ray and the workers write for nobody in particular: into a file, not on the terminal."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from apdist.addresses import without_secrets
from apdist.data import storage

logger = logging.getLogger(__name__)

RAY_LOG_NAME = "ray.log"
MOST_BYTES = 8 << 20
"""A worker that writes a line for every image must not fill a disk."""
_NEWS = ":event_summary:"
_CUT = "further lines are left out: the file is long enough\n"


class NoiseFile:
    """Lines of Ray and the workers of a run, bounded; never an error for who writes.

    A file on a disk grows line by line. Into object storage it goes when it is closed, below what
    earlier attempts have left there; until then it is a temporary file.

    Args:
        uri: the file; empty: nothing is kept.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._room = MOST_BYTES
        self._latest: dict[str, str] = {}
        self._is_here = bool(uri) and "://" not in uri

    def write(self, text: str) -> None:
        """Add ``text``, whole lines, behind the time; an address without its secrets."""
        if not self.uri or not text:
            return
        text = without_secrets(text)
        stamped = "".join(f"{time.strftime('%H:%M:%S')} {line}\n" for line in text.splitlines())
        with self._lock, suppress(OSError, ValueError):  # a full disk is told by who needs it
            if self._room <= 0:
                return
            if self._file is None:
                self._file = self._open()
            if self._room < len(stamped):
                stamped = _CUT
                self._room = 0
            self._room -= len(stamped)
            self._file.write(stamped.encode(errors="replace"))
            self._file.flush()

    def take(self, told: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        """Add lines as Ray hands them to a driver: who wrote them on which host, and what."""
        del ignore_prefix
        who = told.get("actor_name") or told.get("task_name") or ""
        parts = (told.get("ip"), who, told.get("pid"))
        head = " ".join(str(part) for part in parts if part)
        lines = []
        for line in told["lines"]:
            # The autoscaler tells its whole state every five seconds, and marks what is news.
            if told.get("pid") == "autoscaler" and _NEWS not in line:
                continue
            if self._latest.get(head) != line:  # some say the same once a second
                lines.append(f"{head}: {line}")
            self._latest[head] = line
        self.write("\n".join(lines))

    def close(self) -> None:
        """Put what there is in its place; a storage that is away costs a warning."""
        with self._lock:
            file, self._file = self._file, None
            if file is None:
                return
            try:
                if not self._is_here:
                    file.seek(0)
                    before = storage.read_bytes(self.uri) if storage.exists(self.uri) else b""
                    storage.write_bytes(self.uri, (before + file.read())[-MOST_BYTES:])
            except OSError as error:
                logger.warning("Ray's own output could not be kept (%s)", error)
            finally:
                with suppress(OSError):
                    file.close()

    def _open(self) -> IO[bytes]:
        if not self._is_here:
            return tempfile.TemporaryFile()
        file = open(self.uri, "ab")  # noqa: SIM115 - closed by `close`
        self._room -= os.fstat(file.fileno()).st_size
        return file


@contextmanager
def kept_noise(noise: NoiseFile) -> Iterator[None]:
    """Inside, what a driver hears of Ray goes to ``noise``: enter it before Ray starts.

    Lines of the workers on all nodes, what the raylet tells (that it started many processes), and
    Ray's own logger.
    """
    from ray._private import worker

    log, before = logging.getLogger("ray"), worker.print_to_stdstream
    handlers, propagates = log.handlers[:], log.propagate
    # Its drivers look this function up when they join a cluster; there is no other way in.
    worker.print_to_stdstream = noise.take  # type: ignore[assignment]
    log.handlers[:], log.propagate = [_Handler(noise)], False
    try:
        yield
    finally:
        log.handlers[:], log.propagate = handlers, propagates
        worker.print_to_stdstream = before
        noise.close()


class _Handler(logging.Handler):
    """What Ray's Python code logs in the driver."""

    def __init__(self, noise: NoiseFile) -> None:
        super().__init__()
        self.noise = noise
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record."""
        self.noise.write(self.format(record))
