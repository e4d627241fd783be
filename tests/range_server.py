"""A small web server with one file for tests: byte ranges, ETags, and ways to get both wrong."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebFile:
    """What the server serves, and how."""

    data: bytes
    etag: str = '"1"'
    ignores_range: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    """Instead of those that would be right; an empty value leaves the header out."""
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The path of each request."""
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: WebFile

    def do_GET(self) -> None:
        self.file.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path in self.file.redirects:
            self._reply(302, b"", {"Location": self.file.redirects[path]})
        elif path != "/file.tar":
            self._reply(404, b"no such file", {})
        elif (found := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) and (
            not self.file.ignores_range
        ):
            self._part(int(found[1]), int(found[2]) if found[2] else len(self.file.data) - 1)
        else:
            self._reply(200, self.file.data, {"ETag": self.file.etag, **self.file.headers})

    def _part(self, start: int, last: int) -> None:
        size = len(self.file.data)
        if start >= size:
            self._reply(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        last = min(last, size - 1)
        headers = {"ETag": self.file.etag, "Content-Range": f"bytes {start}-{last}/{size}"}
        self._reply(206, self.file.data[start : last + 1], {**headers, **self.file.headers})

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
