"""What a user is told when storage refuses, and what nobody is told."""

import datetime
import ipaddress
import logging
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import RetryPolicy, StorageError, Version
from tests.faulty_proxy import Fault, FaultyProxy, always, faulty_proxy
from tests.range_server import WebFile, range_server
from tests.s3_server import S3Server, s3_server

DATA = bytes(range(256)) * 20
SIGNATURE = "X-Amz-Signature=5ec2e7"


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """A deadline that a busy machine does not reach: what is refused is refused long before."""
    previous = storage.configure(RetryPolicy(deadline_s=30))
    yield
    storage.configure(previous)


@pytest.fixture
def brief(policy: None) -> None:
    """For what is only told when the deadline is over."""
    storage.configure(RetryPolicy(deadline_s=0.6, first_wait_s=0.05, longest_wait_s=0.1))


@pytest.fixture
def web() -> Iterator[WebFile]:
    with range_server(DATA) as file:
        yield file


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    storage.write_bytes("s3://apdist/there", b"0123456789")
    return server


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy that answers as S3 would, and never asks a server."""
    with range_server(b"") as file, faulty_proxy(file.address) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield proxy


def test_a_web_file_is_read_in_all_ways(web: WebFile) -> None:
    uri = f"{web.address}/file.tar"
    assert storage.exists(uri)
    assert storage.version(uri) == Version(len(DATA), "1")
    assert storage.read_bytes(uri) == DATA
    assert storage.read_range(uri, 300, 20, "1") == DATA[300:320]
    with storage.open_stream(uri) as stream:
        assert stream.read(7) + stream.read() == DATA
    with storage.open_stream(uri, offset=1000) as stream:
        assert stream.read() == DATA[1000:]


def test_an_empty_web_file_has_a_size(web: WebFile) -> None:
    web.data = b""
    assert storage.version(f"{web.address}/file.tar") == Version(0, "1")
    assert storage.read_bytes(f"{web.address}/file.tar") == b""


def test_a_missing_web_file_is_not_there_and_named(web: WebFile) -> None:
    assert not storage.exists(f"{web.address}/other")
    with pytest.raises(StorageError, match="/other: no such file"):
        storage.read_bytes(f"{web.address}/other")


def test_a_range_beyond_a_web_file_is_an_error(web: WebFile) -> None:
    with pytest.raises(StorageError, match="ends 5 bytes early"):
        storage.read_range(f"{web.address}/file.tar", len(DATA) - 5, 10)
    with pytest.raises(StorageError, match="ends before that byte"):
        storage.read_range(f"{web.address}/file.tar", len(DATA) + 5, 10)


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


def test_another_version_of_a_web_file_is_refused(web: WebFile) -> None:
    with pytest.raises(StorageError, match="was replaced"):
        storage.read_range(f"{web.address}/file.tar", 3, 10, "2")


def test_the_web_is_read_only() -> None:
    uri = "https://host/folder"
    for operation in (storage.list_files, storage.list_folders, storage.is_empty):
        with pytest.raises(StorageError, match="listing is not possible over http"):
            operation(uri)
    with pytest.raises(StorageError, match="writing is not possible over http"):
        storage.write_bytes(uri, b"")
    with pytest.raises(StorageError, match="writing is not possible"), storage.local_target(uri):
        pass
    with pytest.raises(StorageError, match="writing is not possible"):
        storage.for_ray(uri)
    with pytest.raises(StorageError, match="deleting is not possible"):
        storage.remove(uri)


def test_a_name_that_does_not_resolve_is_named(brief: None) -> None:
    with pytest.raises(StorageError, match=r"the name nowhere\.invalid cannot be resolved"):
        storage.read_bytes("https://nowhere.invalid/file")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(StorageError, match="is no valid address"):
        storage.read_bytes("https://a b:c/file")


def test_a_certificate_that_nobody_knows_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    with range_server(DATA, context) as file:
        with pytest.raises(StorageError, match="TLS failed, .* AWS_CA_BUNDLE"):
            storage.read_bytes(f"{file.address}/file.tar")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        assert storage.read_range(f"{file.address}/file.tar", 5, 5) == DATA[5:10]


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


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
    assert f"{proxy.endpoint}/{path}?..." in told
    assert "5ec2e7" not in told


def test_a_signed_address_serves_a_whole_folder() -> None:
    root = f"https://host/shards/?{SIGNATURE}"
    assert storage.join(root, "index.parquet") == f"https://host/shards/index.parquet?{SIGNATURE}"
    assert storage.join("https://host/shards", "0.tar") == "https://host/shards/0.tar"


@pytest.mark.s3
def test_s3_says_what_is_missing(bucket: S3Server) -> None:
    assert storage.version("s3://apdist/there") == Version(10, "781e5e245d69b566979b86e28d23f2c7")
    assert not storage.exists("s3://apdist/nothing")
    with pytest.raises(StorageError, match="s3://apdist/nothing: no such object"):
        storage.read_bytes("s3://apdist/nothing")
    for operation in (storage.exists, storage.read_bytes, storage.list_files, storage.remove):
        with pytest.raises(StorageError, match="the bucket does not exist"):
            operation("s3://nowhere/x")
    with pytest.raises(StorageError, match="ends before that byte"):
        storage.read_range("s3://apdist/there", 10, 1)
    storage.write_bytes("s3://apdist/empty", b"")
    assert storage.version("s3://apdist/empty").size == 0
    assert storage.read_bytes("s3://apdist/empty") == b""


@pytest.mark.s3
def test_strange_keys_are_read_as_they_were_written(bucket: S3Server) -> None:
    for key in ("a b/+c%20d", "ü/~x&y=z", "q?v#f"):
        storage.write_bytes(f"s3://apdist/strange/{key}", key.encode())
        assert storage.read_range(f"s3://apdist/strange/{key}", 0, 3) == key.encode()[:3]


@pytest.mark.s3
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_SECRET_ACCESS_KEY", "other", "the secret key is wrong"),
        ("AWS_ACCESS_KEY_ID", "other", "the access key is unknown"),
    ],
)
def test_wrong_keys_are_told_apart(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    for operation in (storage.read_bytes, storage.list_files, storage.remove):
        with pytest.raises(StorageError, match=told) as error:
            operation("s3://apdist/there")
        assert bucket.secret_key not in "".join(traceback.format_exception(error.value))


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


def test_a_policy_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline_s must be greater than 0, got 0"):
        RetryPolicy(deadline_s=0)
