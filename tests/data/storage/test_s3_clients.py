"""The signature of a read: made once a minute for any part of an object, and never too old."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.data.storage import s3_clients
from apdist.data.storage.errors import StorageError
from apdist.data.storage.s3_clients import signed_get

NOON = 1_750_000_020.0
"""A full minute."""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setattr(s3_clients.time, "time", lambda: NOON)
    cached = s3_clients._signature
    cached.cache_clear()
    yield
    cached.cache_clear()


def signature(key: str = "a") -> str:
    return signed_get(f"s3://bucket/{key}", "bucket", key)[1]["Authorization"]


def test_what_is_signed_leaves_the_part_open() -> None:
    url, headers = signed_get("s3://bucket/a", "bucket", "a")
    assert url == "http://127.0.0.1:9/bucket/a"
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date," in headers["Authorization"]
    assert "/eu-north-1/s3/aws4_request" in headers["Authorization"]


def test_a_signature_serves_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    sign = s3_clients._signature.__wrapped__
    monkeypatch.setattr(s3_clients, "_signature", lambda *given: made.append(given) or sign(*given))
    signature()
    monkeypatch.setattr(s3_clients.time, "time", lambda: NOON + 59.9)
    signature()
    monkeypatch.setattr(s3_clients.time, "time", lambda: NOON + 60.1)
    signature()
    assert made[0] == made[1] != made[2]


def test_objects_and_keys_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = signature()
    assert signature() == first
    assert signature("b") != first
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    assert signature() != first
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert signed_get("s3://bucket/a", "bucket", "a")[1]["X-Amz-Security-Token"] == "token"


def test_nobody_can_change_a_signature_that_others_use() -> None:
    headers = signed_get("s3://bucket/a", "bucket", "a")[1]
    with pytest.raises(TypeError):
        headers["Range"] = "bytes=0-1"  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_PROFILE", "nowhere", r"\(nowhere\) could not be found; correct AWS_PROFILE"),
        ("AWS_CONFIG_FILE", "broken", "cannot be used: Unable to parse config file: .*broken"),
        ("AWS_ACCESS_KEY_ID", "KEY\n", "^AWS_ACCESS_KEY_ID holds a space or an end of line"),
        ("AWS_SECRET_ACCESS_KEY", "geheim key", "^AWS_SECRET_ACCESS_KEY holds a space"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    (tmp_path / "broken").write_text("[default\nx")
    monkeypatch.setenv(name, str(tmp_path / value) if name == "AWS_CONFIG_FILE" else value)
    with pytest.raises(StorageError, match=message) as told:
        s3_clients._Clients().client(1.0)
    assert "geheim" not in str(told.value)
