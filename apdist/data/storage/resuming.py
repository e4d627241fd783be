"""Read a file from a server as one stream, whatever happens to the connections."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from apdist.data.storage.errors import StorageError, TransientError, replaced
from apdist.data.storage.http import Part, range_headers, request_part
from apdist.data.storage.retries import Attempts

Request = Callable[[str, str], tuple[str, Mapping[str, str]]]
"""File and ETag (empty for any version) -> the URL where it is asked for, and headers."""
MAX_RECEIVED_BYTES = 256 << 10
"""Bytes taken from a socket at once."""
DEADLINE_BYTES = 8 << 20
"""Bytes that each have the policy's deadline: a whole shard may take longer than one."""


class ResumingReader(io.RawIOBase):
    """Bytes of an object; a connection that breaks is opened again at the byte reached.

    Every answer must carry the ETag of the first, so an object that was replaced in between is an
    error and never a mixture of two versions.

    Args:
        uri: the file.
        request: how it is asked for.
        offset: first byte to read.
        size: bytes to read; -1 for all that follow.
        etag: of the version to read; empty for the one that is there.
    """

    def __init__(
        self, uri: str, request: Request, *, offset: int = 0, size: int = -1, etag: str = ""
    ) -> None:
        self.uri, self.request, self.position, self.etag = uri, request, offset, etag
        self.end = offset + size if size >= 0 else -1
        self.file_bytes = -1
        self.part: Part | None = None

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, or what is left to read of it; 0 at the end."""
        filled = 0
        with memoryview(buffer) as view:
            for block in self._blocks(len(view)):
                view[filled : filled + len(block)] = block
                filled += len(block)
        return filled

    def readall(self) -> bytes:
        """All bytes to the end."""
        self.connect()
        return b"".join(self._blocks(self.end - self.position))

    def connect(self) -> None:
        """Ask now, so that ``etag``, ``end`` and ``file_bytes`` are known before the first read."""
        attempts = Attempts(self.uri)
        while self.part is None and self.file_bytes < 0:
            try:
                self._connect(attempts)
            except TransientError as error:
                attempts.wait(error)

    def close(self) -> None:
        """Close the connection, or give it back if all has been read."""
        self._leave()
        super().close()

    def _blocks(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes, or what is left, as they arrive."""
        attempts, left, deadline_left = Attempts(self.uri), size, DEADLINE_BYTES
        while left and not 0 <= self.end <= self.position:
            try:
                block = self._receive(min(left, deadline_left, MAX_RECEIVED_BYTES), attempts)
            except TransientError as error:
                self._leave()
                attempts.wait(TransientError(f"{error} at byte {self.position}"))
                continue
            self.position += len(block)
            left -= len(block)
            deadline_left -= len(block)
            attempts.progressed()
            if not deadline_left:
                attempts, deadline_left = Attempts(self.uri), DEADLINE_BYTES
            yield block
        if self.position == self.end:
            self._leave()

    def _receive(self, limit: int, attempts: Attempts) -> bytes:
        if self.part is not None and self.position == self.part.end:
            self._leave()  # the server sent less than it was asked for, as it may
        part = self.part or self._connect(attempts)
        block = part.read(limit, attempts) if self.position < self.end else b""
        if not block and self.position < self.end:
            raise TransientError("connection closed")
        return block

    def _connect(self, attempts: Attempts) -> Part:
        url, headers = self.request(self.uri, self.etag)
        headers = {**range_headers(self.position, self.end), **headers}
        part = request_part(self.uri, url, self.position, self.end, headers, attempts)
        try:
            self._check_version(part)
        except StorageError:
            part.drop()
            raise
        attempts.answered()
        self.end = min(self.end, part.file_bytes) if self.end >= 0 else part.file_bytes
        self.etag, self.file_bytes, self.part = self.etag or part.etag, part.file_bytes, part
        return part

    def _check_version(self, part: Part) -> None:
        other_etag = self.etag and part.etag and part.etag != self.etag
        other_size = 0 <= self.file_bytes != part.file_bytes
        if other_etag or other_size:
            raise replaced(self.uri)

    def _leave(self) -> None:
        if self.part is None:
            return
        if self.position == self.part.end:
            self.part.release()
        else:
            self.part.drop()
        self.part = None
