"""What is told when an operation on storage is given up."""

import logging
import random
import socket
import time
from collections.abc import Iterator

import pytest

from apdist.data import storage
from apdist.data.storage.errors import NobodyThereError, StorageError, TransientError
from apdist.data.storage.retries import Attempts, RetryPolicy, at_most, retrying


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


@pytest.mark.parametrize("name", list(vars(RetryPolicy())))
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_policy_has_times_over_0(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than 0, got {value}"):
        RetryPolicy(**{name: value})


def test_an_operation_takes_at_most_what_is_said_and_what_the_policy_says() -> None:
    previous = storage.configure(RetryPolicy(deadline_s=50, first_wait_s=3))
    try:
        for most, deadline_s in ((20, 20), (70, 50)):
            with at_most(most):
                policy = Attempts("s3://bucket/x").policy
                assert (policy.deadline_s, policy.first_wait_s) == (deadline_s, 3)
        assert Attempts("s3://bucket/x").policy.deadline_s == 50
    finally:
        storage.configure(previous)


def test_waits_double_up_to_the_longest_and_are_short_again_after_progress(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits, spreads = list[float](), set[tuple[float, float]]()

    def drawn(low: float, high: float) -> float:
        spreads.add((low, high))
        return 1.0

    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(random, "uniform", drawn)
    policy = RetryPolicy(deadline_s=1e6, first_wait_s=0.25, longest_wait_s=1.5)
    previous, before = storage.configure(policy), storage.counters()
    try:
        attempts = Attempts("s3://bucket/x")
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                attempts.wait(TransientError("HTTP 503"))
            assert not caplog.records
            for _ in range(3):
                attempts.wait(TransientError("HTTP 503"))
        assert len(caplog.records) == 3
        attempts.progressed()
        attempts.wait(TransientError("HTTP 503"))
    finally:
        storage.configure(previous)
    assert waits == [0.25, 0.5, 1.0, 1.5, 1.5, 0.25]
    assert spreads == {(0.5, 1.5)}
    assert storage.counters().since(before).retries == 6


def test_what_is_left_to_the_deadline_serves_as_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    previous = storage.configure(RetryPolicy(deadline_s=20))
    try:
        attempts = Attempts("s3://bucket/x")
    finally:
        storage.configure(previous)
    clock[0] = 105.0
    assert attempts.left_s() == 15
    attempts.check_deadline()
    clock[0] = 121.0
    assert attempts.left_s() == 0.001
    with pytest.raises(TransientError, match="too slow"):
        attempts.check_deadline()
