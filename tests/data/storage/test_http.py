"""Answers of HTTP servers: followed, read or refused."""

import pytest

from apdist.data import storage
from apdist.data.storage import StorageError, Version
from tests.data.storage.conftest import DATA
from tests.range_server import WebFile

pytestmark = pytest.mark.usefixtures("policy")


def test_redirects_are_followed_but_not_for_ever(web: WebFile) -> None:
    web.redirects = {"/moved": "/file.tar", "/round": "/round"}
    assert storage.read_range(f"{web.address}/moved", 3, 4) == DATA[3:7]
    with pytest.raises(StorageError, match="redirected more than 5 times"):
        storage.read_bytes(f"{web.address}/round")


def test_a_server_without_ranges_serves_from_the_first_byte_only(web: WebFile) -> None:
    web.ignores_range = True
    assert storage.read_bytes(f"{web.address}/file.tar") == DATA
    assert storage.read_range(f"{web.address}/file.tar", 0, 10) == DATA[:10]
    assert storage.version(f"{web.address}/file.tar") == Version(len(DATA), "1")
    with pytest.raises(StorageError, match="ignores Range requests"):
        storage.read_range(f"{web.address}/file.tar", 1, 10)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Content-Encoding": "gzip"}, "compresses on the way"),
        ({"Content-Range": "bytes 0-9/5120"}, "asked for bytes 3 to 13, the server sent"),
        ({"Content-Range": ""}, "asked for bytes 3 to 13, the server sent ''"),
    ],
)
def test_a_wrong_answer_is_refused(web: WebFile, headers: dict[str, str], told: str) -> None:
    web.headers = headers
    with pytest.raises(StorageError, match=told):
        storage.read_range(f"{web.address}/file.tar", 3, 10)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(StorageError, match="is no valid address"):
        storage.read_bytes("https://a b:c/file")
