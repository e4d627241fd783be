import pytest

from apdist.addresses import (
    has_hidden,
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
        ("http://token@host/x?y", "http://...@host/x?..."),
        ("HTTPS://token@host/x?y", "HTTPS://...@host/x?..."),
        ("web+S3.v2-x://me:word@host/x", "web+S3.v2-x://...@host/x"),
        ("https://host/x#sig=y", "https://host/x?..."),
        ("postgresql://me@firm:word@h/db", "postgresql://...@h/db"),  # a name that is an address
    ],
)
def test_an_address_is_shown_without_user_password_and_query(uri: str, seen: str) -> None:
    assert shown(uri) == seen == shown(seen) == without_secrets(seen)
    assert is_withheld(seen)
    with pytest.raises(ValueError, match="give the whole address again"):
        refuse_withheld(seen)


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("https://h/x?a=b\nsig=c", "https://h/x?..."),
        ("s3://key:a/\nb@bucket/p", "s3://...@bucket/p"),
        ("https://me:a/\nb@h/x", "https://...@h/x"),
    ],
)
def test_a_secret_of_several_lines_is_not_shown(uri: str, seen: str) -> None:
    assert shown(uri) == seen


@pytest.mark.parametrize("mark", "?&;#")
@pytest.mark.parametrize(
    "name",
    [
        *("sig", "signature", "credential", "token", "password"),
        *("passwd", "pwd", "secret", "key", "keyid"),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, mark: str) -> None:
    for named in (name, f"X-Amz.a%20{name}", name.upper()):
        text = f"see /p{mark}{named}=a/b+c%2F&k=1 'for' it"
        assert without_secrets(text) == f"see /p{mark}{named}=...&k=1 'for' it"
        assert without_secrets(f'"/p{mark}{named}=ab", "c"') == f'"/p{mark}{named}=...", "c"'
        assert without_secrets(f"/p{mark}{named}=ab c") == f"/p{mark}{named}=... c"


def test_what_is_hidden_of_a_text_is_told() -> None:
    assert has_hidden("from https://h/x to https://h/x?sig=y")
    assert not has_hidden("from https://h/x to s3://b/x?y")
    assert not has_hidden("nothing")


def test_a_list_with_an_address_without_its_secret_is_withheld() -> None:
    for several in (list, tuple):
        assert is_withheld(several(["a", "https://h/x?..."]))
        assert not is_withheld(several(["a", "https://h/x"]))
        assert without_any(several(["https://h/x?sig=y", 1])) == ["https://h/x?...", 1]
    assert is_withheld("beside=https:/h/x?...")
    with pytest.raises(KeyError):
        refuse_withheld("https://h/x?...", KeyError)


@pytest.mark.parametrize(
    "uri",
    [
        "/a/b?c@d",
        "mongodb://host:80?a=b@c",
        "mongodb://host:80#a=b@c",
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
        ("(mysql://u:p@h/db?password=x); check", "(mysql://...@h/db?password=...); check"),
        ("a=s3:/u:p@h/x, b=HTTPS://h/x?y.", "a=s3:/...@h/x, b=HTTPS://h/x?...."),
        ("https://h/x?...sig=a z", "https://h/x?... z"),  # a query that begins as a hidden one
        ("['https://h/x?s=1','b']", "['https://h/x?...','b']"),
        ("roxford=https://u:p@h/p?sig=1", "roxford=https://...@h/p?..."),
        ('{"u": "https://h/p?s=1", "v": 2}', '{"u": "https://h/p?...", "v": 2}'),
        ("see https://h/x. Why? e.g. C:/me@x", "see https://h/x. Why? e.g. C:/me@x"),
    ],
)
def test_text_is_shown_without_the_secrets_of_its_addresses(text: str, seen: str) -> None:
    assert without_secrets(text) == seen == without_secrets(seen)
    assert without_any({"a": [text], "b": 1}) == {"a": [seen], "b": 1}
