"""What a user is told when storage refuses, and what nobody is told."""

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import RetryPolicy, StorageError
from tests.data.storage.conftest import DATA
from tests.faulty_proxy import Fault, FaultyProxy, always, faulty_proxy, first
from tests.range_server import WebFile, range_server

SIGNATURE = "X-Amz-Signature=5ec2e7"


pytestmark = pytest.mark.usefixtures("policy")


@pytest.fixture
def brief(policy: None) -> None:
    """For what is only told when the deadline is over."""
    storage.configure(RetryPolicy(deadline_s=0.6, first_wait_s=0.05, longest_wait_s=0.1))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy that answers as S3 would, and never asks a server."""
    with range_server(b"") as file, faulty_proxy(file.address) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield proxy


def test_a_name_that_does_not_resolve_is_named(brief: None) -> None:
    with pytest.raises(StorageError, match=r"the name nowhere\.invalid cannot be resolved"):
        storage.read_bytes("https://nowhere.invalid/file")


@pytest.mark.parametrize("path", ["file.tar", "other"])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("reset"),
        Fault("stall", after=300, seconds=9),
        Fault("status"),
        Fault("status", status=403, code=""),
    ],
)
def test_a_signature_is_never_told(
    web: WebFile, path: str, fault: Fault | None, caplog: pytest.LogCaptureFixture, brief: None
) -> None:
    caplog.set_level(logging.DEBUG)
    web.redirects = {"/file.tar": f"/gone?{SIGNATURE}"}
    with faulty_proxy(web.address) as proxy:
        proxy.begin(lambda number: fault)
        address = proxy.endpoint.replace("http://", "http://user:pass5ec2e7@")
        with pytest.raises(StorageError) as error:
            storage.read_range(f"{address}/{path}?{SIGNATURE}", 3, 10)
    told = "".join(traceback.format_exception(error.value)) + caplog.text
    seen = proxy.endpoint.replace("http://", "http://...@")
    assert f"{seen}/{path}?..." in told
    assert "5ec2e7" not in told


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "ExpiredToken", "the session token has expired"),
        (400, "InvalidToken", "the session token has expired"),
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
        (301, "PermanentRedirect", "another region; set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "another region; set AWS_REGION"),
        (403, "AccessDenied", "access denied"),
        (403, "InvalidObjectState", "archived"),
        (403, "", "access denied"),
        (404, "NoSuchBucket", "the bucket does not exist"),
        (405, "MethodNotAllowed", "refused, HTTP 405 MethodNotAllowed"),
    ],
)
def test_what_s3_refuses_is_told_in_words(
    answers: FaultyProxy, status: int, code: str, told: str
) -> None:
    answers.begin(always(Fault("status", status=status, code=code)))
    with pytest.raises(StorageError, match=told):
        storage.read_range("s3://bucket/key", 0, 10)
    if status != 301:  # boto3 asks where the bucket is, of this proxy for ever
        with pytest.raises(StorageError, match=told):
            storage.write_bytes("s3://bucket/key", b"x")


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for operation in (storage.read_bytes, storage.list_files):
        with pytest.raises(StorageError, match="no AWS credentials; set AWS_ACCESS_KEY_ID"):
            operation("s3://bucket/key")


def test_an_endpoint_whose_name_does_not_resolve_is_named(
    answers: FaultyProxy, monkeypatch: pytest.MonkeyPatch, brief: None
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid:1")
    for operation in (storage.read_bytes, storage.list_files):
        with pytest.raises(StorageError, match=r"the name nowhere\.invalid cannot be resolved"):
            operation("s3://bucket/key")


@pytest.fixture
def closed() -> str:
    """An address where no server listens."""
    with range_server(b"") as file:
        return file.address


def test_what_is_wrong_with_a_connection_is_told_in_words(
    web: WebFile, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.configure(RetryPolicy(deadline_s=0.6, first_wait_s=0.05, unanswered_s=0.1))
    with pytest.raises(
        StorageError, match=r"no connection \(connection refused\), no server listens there; check"
    ):
        storage.read_bytes(f"{closed}/file")
    with pytest.raises(StorageError, match="no server listens there"):
        storage.version(f"{closed}/file")
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(
        StorageError, match=r"no connection \(connection refused\), .*; check AWS_ENDPOINT_URL"
    ):
        storage.list_files("s3://bucket/folder")
    with faulty_proxy(web.address) as proxy:
        proxy.begin(always(Fault("stall", seconds=9)))
        with pytest.raises(StorageError, match=r"gave up after .*: the server went silent; check"):
            storage.read_bytes(f"{proxy.endpoint}/file.tar")
    monkeypatch.setenv("HTTP_PROXY", closed)
    with pytest.raises(
        StorageError,
        match=r"the proxy failed \(no connection \(.*\)\); check HTTPS_PROXY, HTTP_PROXY",
    ):
        storage.read_bytes("http://elsewhere.invalid/file")


@pytest.mark.parametrize("status", [307, 408, 425, 429, 500, 503])
def test_a_server_that_cannot_answer_now_is_asked_again(web: WebFile, status: int) -> None:
    storage.configure(RetryPolicy(first_wait_s=0.001))
    with faulty_proxy(web.address) as proxy:
        proxy.begin(first(Fault("status", status=status, code="")))
        assert storage.read_range(f"{proxy.endpoint}/file.tar", 3, 4) == DATA[3:7]
        assert proxy.num_faults.total() == 1


@pytest.mark.parametrize("status", [400, 404, 409, 428])
def test_a_server_that_refuses_is_asked_once(web: WebFile, status: int) -> None:
    with faulty_proxy(web.address) as proxy:
        proxy.begin(first(Fault("status", status=status, code="")))
        with pytest.raises(StorageError, match=f"HTTP {status}"):
            storage.read_range(f"{proxy.endpoint}/file.tar", 3, 4)
        assert proxy.num_requests == 1


def test_a_policy_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline_s must be greater than 0, got 0"):
        RetryPolicy(deadline_s=0)
