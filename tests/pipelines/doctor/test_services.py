"""What is said of stores, clocks and MLflow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest

from apdist.data import storage
from apdist_verbs.doctor import services
from apdist_verbs.doctor.finding import examined
from tests.s3_server import S3Server


class Answer(BaseHTTPRequestHandler):
    """A server whose status and clock a test sets."""

    status, off = 200, 0.0

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time() + self.off, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as there:
        thread = threading.Thread(target=there.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{there.server_port}"
        there.shutdown()
        thread.join()


def test_a_bucket_is_written_to_read_and_left_as_it_was(s3: S3Server) -> None:
    uri = f"s3://{s3.bucket}/doctor"
    assert services.stores(uri)[0] == "good"
    assert services.clock(uri)[0] == "good"
    assert storage.is_empty(uri)


@pytest.mark.parametrize(
    ("off", "state", "word"),
    [(0, "good", "s "), (-300, "to know", "ahead of"), (3600, "wrong", "behind")],
)
def test_a_clock_that_is_off_is_noticed(
    server: str, monkeypatch: pytest.MonkeyPatch, off: float, state: str, word: str
) -> None:
    monkeypatch.setattr(Answer, "off", off)
    found = services.clock("runs", f"{server}/shards?signature=secret")
    assert found[0] == state
    assert word in found[1]
    assert "secret" not in found[1]


def test_a_tracking_server_is_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert services.tracking(server) == ("good", f"{server} answers", "")
    monkeypatch.setattr(Answer, "status", 401)
    assert "MLFLOW_TRACKING_USERNAME" in services.tracking(server)[2]
    monkeypatch.setattr(Answer, "status", 500)
    assert services.tracking(server)[0] == "wrong"
    found = examined("MLflow", lambda: services.tracking("http://127.0.0.1:1"))
    assert (found.state, found.remedy[:9]) == ("wrong", "start one")
