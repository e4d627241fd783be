import os

import pytest

from apdist.data.text import composed, decoded, printable, real_name, shown_name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_with_and_without_a_byte_order_mark(encoding: str) -> None:
    assert decoded("é,ß\r\n".encode(encoding)) == "é,ß\r\n"
    assert decoded(b"\xfe\xff" + "é".encode("utf-16-be")) == "é"
    assert decoded(b"\0\0\xfe\xff" + "é".encode("utf-32-be")) == "é"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["path,label\n名/é.jpg,ß\n", "1", ""])
def test_wide_text_without_a_mark_is_told_by_its_zeros(encoding: str, text: str) -> None:
    assert decoded(text.encode(encoding)) == text


def test_text_in_no_known_encoding_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        decoded("é".encode("latin-1"))


def test_names_are_shown_as_text_on_one_line() -> None:
    assert composed("e\u0301") == "\u00e9"
    assert shown_name(os.fsdecode(b"caf\xe9/\xc3\xa9")) == r"caf\xe9/" + "é"
    assert real_name(r"caf\xe9/" + "é") == os.fsdecode(b"caf\xe9/\xc3\xa9")
    assert real_name(r"plain\x41 \xéa") == r"plain\x41 \xéa"
    assert printable("a\nb\x1b[1m é") == r"a\nb\x1b[1m é"
