"""Answers of HTTP servers: followed, read or refused."""

import ssl
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import StorageError, Version, resuming
from tests.data.storage.conftest import DATA
from tests.data.storage.test_connections import certificate
from tests.range_server import WebFile, range_server

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


def test_a_server_that_sends_less_than_it_was_asked_for_is_asked_for_the_rest(
    web: WebFile,
) -> None:
    web.most_bytes = 700
    uri, before = f"{web.address}/file.tar", storage.counters()
    assert storage.read_range(uri, 3, 2000) == DATA[3:2003]
    with storage.open_stream(uri, offset=1000) as stream:
        assert stream.read() == DATA[1000:]
    assert len(web.asked) == 3 + 6
    assert storage.counters().since(before).retries == 0


def test_a_file_is_whole_where_its_parts_have_a_deadline_each(
    web: WebFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "DEADLINE_BYTES", 1000)  # fewer than one answer begins with
    assert storage.read_bytes(f"{web.address}/file.tar") == DATA


def test_a_redirect_leads_to_tls_and_never_back(
    web: WebFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = certificate(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    with range_server(DATA, context) as safe:
        web.redirects = {"/moved": f"{safe.address}/file.tar"}
        assert storage.read_range(f"{web.address}/moved", 3, 4) == DATA[3:7]
        safe.redirects = {"/moved": f"{web.address}/file.tar?X-Amz-Signature=5ec2e7"}
        asked = len(web.asked)
        with pytest.raises(StorageError, match=r"redirects from https to http:.*\?\.\.\.$"):
            storage.read_range(f"{safe.address}/moved", 3, 4)
    assert len(web.asked) == asked


def test_a_request_that_is_signed_is_sent_to_no_other_address(
    web: WebFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    web.redirects = {"/bucket/key": "/file.tar"}
    with pytest.raises(StorageError, match="s3://bucket/key: refused, HTTP 302"):
        storage.read_range("s3://bucket/key", 3, 10)
    assert web.asked == ["/bucket/key"]


def test_an_etag_that_is_weak_is_compared_as_others_are(web: WebFile) -> None:
    web.etag = 'W/"1"'
    assert storage.read_range(f"{web.address}/file.tar", 3, 4, "1") == DATA[3:7]


def test_a_file_whose_size_the_server_does_not_say_is_refused(web: WebFile) -> None:
    web.headers = {"Content-Length": ""}
    with pytest.raises(StorageError, match="does not say how long the file is"):
        storage.read_bytes(f"{web.address}/file.tar")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Content-Encoding": "gzip"}, "compresses on the way"),
        ({"Content-Range": "bytes 0-9/5120"}, "asked for bytes 3 to 13, the server sent"),
        ({"Content-Range": "bytes 3-13/5120"}, "asked for bytes 3 to 13, the server sent"),
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
