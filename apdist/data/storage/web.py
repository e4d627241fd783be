"""Files of web servers, which are read by name; other stores read as this one, signed."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from apdist.addresses import refuse_withheld
from apdist.data.storage.errors import RangeError, StorageError
from apdist.data.storage.resuming import ResumingReader
from apdist.data.storage.store import ReadableStore, Version

BLOCK_BYTES = 1 << 20


class WebStore(ReadableStore):
    """``https://`` and ``http://`` addresses."""

    address = "https:// to read"

    def request(self, uri: str, etag: str) -> tuple[str, Mapping[str, str]]:
        """The URL where a version of ``uri`` is asked for, and the headers that go with it."""
        del etag  # what comes back is compared with it
        refuse_withheld(uri, StorageError)
        return uri, {}

    def local_path(self, uri: str) -> Path | None:
        """None: nothing on the web is a path of this machine."""
        del uri
        return None

    def join(self, root: str, name: str) -> str:
        """``name`` under ``root``; a query, such as the signature of a folder, stays at the end."""
        parts = urlsplit(root)
        return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()

    def version(self, uri: str) -> Version:
        """Size and ETag."""
        # A GET, as an address may be signed for nothing else, and an error then says what is
        # missing.
        try:
            return self._asked(uri, size=1)
        except RangeError:  # it is empty
            return self._asked(uri, size=-1)

    def read_range(self, uri: str, offset: int, size: int, etag: str) -> bytearray:
        """``size`` bytes from ``offset``, or fewer at the end of the file."""
        with ResumingReader(uri, self.request, offset=offset, size=size, etag=etag) as reader:
            block = bytearray(size)  # all at once: pieces put together would take it twice
            del block[reader.readinto(block) :]
            return block

    def open_stream(self, uri: str, offset: int, etag: str) -> IO[bytes]:
        """A stream that goes on at the byte it reached when a connection breaks."""
        reader = ResumingReader(uri, self.request, offset=offset, etag=etag)
        return io.BufferedReader(reader, BLOCK_BYTES)

    def _asked(self, uri: str, size: int) -> Version:
        with ResumingReader(uri, self.request, size=size) as reader:
            reader.connect()
            return Version(reader.file_bytes, reader.etag)
