"""What is told when an operation on storage is given up."""

import time

import pytest

from apdist.data import storage
from apdist.data.storage.errors import StorageError, TransientError
from apdist.data.storage.retries import Attempts, RetryPolicy


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
