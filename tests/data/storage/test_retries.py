"""What is told when an operation on storage is given up."""

import socket
import time
from collections.abc import Iterator

import pytest

from apdist.data import storage
from apdist.data.storage.errors import NobodyThereError, StorageError, TransientError
from apdist.data.storage.retries import Attempts, RetryPolicy, retrying


def test_a_try_that_the_deadline_cut_short_does_not_hide_what_the_server_said() -> None:
    previous = storage.configure(RetryPolicy(deadline_s=1.0, first_wait_s=0.001))
    try:
        attempts = Attempts("s3://bucket/x")
    finally:
        storage.configure(previous)
    attempts.wait(TransientError("HTTP 503"))
    time.sleep(1.0)
    with pytest.raises(StorageError, match=r"gave up after .*: HTTP 503; check the network"):
        attempts.wait(TransientError("the server went silent"))


@pytest.fixture
def impatient() -> Iterator[None]:
    policy = RetryPolicy(deadline_s=30, first_wait_s=0.01, longest_wait_s=0.02, unanswered_s=0.2)
    previous = storage.configure(policy)
    yield
    storage.configure(previous)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_answered_and_refuses_connections_is_an_error_soon() -> None:
    with socket.socket() as closed:  # a port that nobody else gets meanwhile
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}/x.tar"
        begun = time.monotonic()
        with pytest.raises(StorageError, match=r"no server listens there; check the address"):
            storage.read_bytes(uri)
    assert time.monotonic() - begun < 20


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", ["a result", "HTTP 503"])
def test_a_server_that_has_answered_once_is_waited_for(answer: str) -> None:
    uri = f"http://{answer.replace(' ', '-')}.example/x"
    if answer == "a result":
        retrying(uri, lambda _: answer)
    else:
        Attempts(uri).wait(TransientError(answer))
    refusals = [NobodyThereError("no connection")] * 40  # longer than `unanswered_s`

    def come_back(_: Attempts) -> str:
        if refusals:
            raise refusals.pop()
        return "back"

    assert retrying(uri, come_back) == "back"
