"""A small web server for tests: byte ranges, ETags, and ways to get both wrong."""

import re
import ssl
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class WebFile:
    """What the server serves, and how."""

    data: bytes
    etag: str = '"1"'
    ignores_range: bool = False
    most_bytes: int = 1 << 40
    """That an answer to a request for a range has."""
    headers: dict[str, str] = field(default_factory=dict)
    """Instead of those that would be right; an empty value leaves the header out."""
    redirects: dict[str, str] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)
    """Further files by their path; each has its checksum as ETag."""
    asked: list[str] = field(default_factory=list)
    """The path of each request."""
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: WebFile

    def do_GET(self) -> None:
        self.file.asked.append(self.path)
        path = self.path.partition("?")[0]
        if (other := self.file.others.get(unquote(path))) is not None:
            self._file(other, f'"{zlib.crc32(other)}"')
        elif path in self.file.redirects:
            self._reply(302, b"", {"Location": self.file.redirects[path]})
        elif path != "/file.tar":
            self._reply(404, b"no such file", {})
        else:
            self._file(self.file.data, self.file.etag)

    def _file(self, data: bytes, etag: str) -> None:
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found and not self.file.ignores_range:
            last = int(found[2]) if found[2] else len(data) - 1
            self._part(data, etag, int(found[1]), last)
        else:
            self._reply(200, data, {"ETag": etag, **self.file.headers})

    def _part(self, data: bytes, etag: str, start: int, last: int) -> None:
        size = len(data)
        if start >= size:
            self._reply(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        last = min(last, size - 1, start + self.file.most_bytes - 1)
        headers = {"ETag": etag, "Content-Range": f"bytes {start}-{last}/{size}"}
        self._reply(206, data[start : last + 1], {**headers, **self.file.headers})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """Clients of these tests leave as they like."""


@contextmanager
def range_server(data: bytes, tls: ssl.SSLContext | None = None) -> Iterator[WebFile]:
    """Serve ``data`` as /file.tar on loopback."""
    file = WebFile(data)
    handler = type("FileHandler", (Handler,), {"file": file})
    server = QuietServer(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    file.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield file
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
