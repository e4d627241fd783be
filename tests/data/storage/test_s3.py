"""Objects in S3: what is there, under which key, for whom."""

import traceback

import pytest

from apdist.data import storage
from apdist.data.storage import StorageError, Version
from tests.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("policy")


@pytest.fixture
def bucket(s3: S3Server) -> S3Server:
    storage.write_bytes("s3://apdist/there", b"0123456789")
    return s3


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
