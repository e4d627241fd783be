"""A wrong address of a cluster is refused in seconds; the right one is tested in `test_cluster`."""

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from apdist.training.cluster import address
from apdist.training.cluster.address import refuse_if_unreachable
from tests.places import ROOT
from tests.s3_server import free_ports


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of something that is no Ray."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_port_where_nobody_listens_is_refused_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"no Ray cluster at .* use --ray.address local"):
        refuse_if_unreachable(f"127.0.0.1:{free_ports(1)[0]}")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("address", ["nowhere.invalid:6379", "127.0.0.1:99999"])
def test_an_address_that_cannot_exist_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no Ray cluster at ray.address"):
        refuse_if_unreachable(address)


def test_the_address_of_the_environment_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    for said in ("http://127.0.0.1:8265", "ray://127.0.0.1:10001"):
        monkeypatch.setenv("RAY_ADDRESS", said)
        with pytest.raises(ValueError, match=f"RAY_ADDRESS must be HOST:PORT, .* '{said}': cor"):
            refuse_if_unreachable("auto")
    monkeypatch.setenv("RAY_ADDRESS", said := f"127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(
        ValueError, match=f"no Ray cluster at '{said}', which RAY_ADDRESS says .* unset RAY"
    ):
        refuse_if_unreachable("auto")


@pytest.mark.cluster
def test_a_server_that_is_no_ray_is_refused_in_time(
    web_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "ANSWER_S", 2.0)
    started = time.monotonic()
    with pytest.raises(ValueError, match="does not answer as the head of one does"):
        refuse_if_unreachable(f"127.0.0.1:{web_server}")
    assert time.monotonic() - started < 2.0 + 5


@contextmanager
def greeting(answer: bytes) -> Iterator[str]:
    """The address of a server that says ``answer`` to whoever comes, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, suppress(OSError):

        def greet() -> None:
            with suppress(OSError):
                while True:
                    guests.append(server.accept()[0])
                    guests[-1].sendall(answer)

        guests: list[socket.socket] = []
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for guest in guests:
                guest.close()


SETTINGS = b"\x00\x00\x06\x04" + bytes(11)


@pytest.mark.parametrize(
    ("answer", "patience"),
    [(SETTINGS, address.BUSY_S), (b"HTTP/1.1 400 Bad", address.ANSWER_S), (b"", address.ANSWER_S)],
)
def test_a_head_that_is_busy_is_waited_for(
    answer: bytes, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def status(command: list[str], timeout: float, **_: object) -> None:
        waited.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", status)
    monkeypatch.setattr(address, "KNOCK_S", 0.2)
    with greeting(answer) as where, pytest.raises(ValueError, match="does not answer"):
        refuse_if_unreachable(where)
    assert waited == [patience]


@pytest.mark.cluster
@pytest.mark.slow
def test_auto_where_a_cluster_was_killed_is_refused_in_time(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()  # what it leaves behind
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_ports(1)[0]}")
    arguments = ["train", "glyphs", "--data.shards", str(shards), "--training.batch-size", "16"]
    own = ["--run.output", str(tmp_path / "runs"), "--tracking.no-enabled"]
    answer = subprocess.run(
        [sys.executable, "-m", "apdist_verbs", *arguments, *own, "--ray.address", "auto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("apdist: no Ray cluster at ray.address 'auto'")
    assert answer.stderr.count("\n") == 1
