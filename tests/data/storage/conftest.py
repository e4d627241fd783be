"""A web server with one file, and a patient policy: for the tests of several stores."""

from collections.abc import Iterator

import pytest

from apdist.data import storage
from apdist.data.storage.retries import RetryPolicy
from tests.range_server import WebFile, range_server

DATA = bytes(range(256)) * 20


@pytest.fixture
def policy() -> Iterator[None]:
    """A deadline that a busy machine does not reach: what is refused is refused long before."""
    previous = storage.configure(RetryPolicy(deadline_s=30))
    yield
    storage.configure(previous)


@pytest.fixture
def web() -> Iterator[WebFile]:
    with range_server(DATA) as file:
        yield file
