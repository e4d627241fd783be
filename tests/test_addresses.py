import pytest

from apdist.addresses import (
    is_withheld,
    refuse_withheld,
    shown,
    without_any,
    without_secrets,
)


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("https://me:word@host/a.png?sign=x", "https://...@host/a.png?..."),
        ("https://token@host/x#part", "https://...@host/x?..."),
        ("https://host:8000?sig=x", "https://host:8000?..."),
        ("https://h/x?a='y'&sig=1 2", "https://h/x?..."),
        ("https:/u:word@h/x?sig=x", "https:/...@h/x?..."),  # taken for a path
        ("s3://AKIA:ab/cd@bucket/p", "s3://...@bucket/p"),
        ("ray://u:p@h:1", "ray://...@h:1"),
        ("postgresql://u:p@h/db?password=x&a=b", "postgresql://...@h/db?password=...&a=b"),
    ],
)
def test_an_address_is_shown_without_user_password_and_query(uri: str, seen: str) -> None:
    assert shown(uri) == seen == shown(seen) == without_secrets(seen)
    assert is_withheld(seen)
    with pytest.raises(ValueError, match="give the whole address again"):
        refuse_withheld(seen)


@pytest.mark.parametrize(
    "uri",
    [
        "/a/b?c@d",
        "s3://bucket/a@b?x",
        "http://[::1]:5000/a@b",
        "https://host:8000/a@b",
        "ssh://git@host/x",
        "sqlite:////a/b.db",
        "http://127.0.0.1:5000/#/experiments/1/runs/2?workflowType=machine_learning",
    ],
)
def test_an_address_without_a_secret_stays(uri: str) -> None:
    assert shown(uri) == uri == without_secrets(uri)
    refuse_withheld(uri)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("(https://h/x?sig=y); check", "(https://h/x?...); check"),
        ("https://h/p?name*=UTF-8''x.jpg&q=1 z", "https://h/p?... z"),
        ("url: /p/x?X-Amz-Signature=abc&b=1", "url: /p/x?X-Amz-Signature=...&b=1"),
        ("roxford=https://u:p@h/p?sig=1", "roxford=https://...@h/p?..."),
        ('{"u": "https://h/p?s=1", "v": 2}', '{"u": "https://h/p?...", "v": 2}'),
        ("see https://h/x. Why? e.g. C:/me@x", "see https://h/x. Why? e.g. C:/me@x"),
    ],
)
def test_text_is_shown_without_the_secrets_of_its_addresses(text: str, seen: str) -> None:
    assert without_secrets(text) == seen == without_secrets(seen)
    assert without_any({"a": [text], "b": 1}) == {"a": [seen], "b": 1}
