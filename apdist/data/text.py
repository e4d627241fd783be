"""Text that others wrote: byte order marks, normal forms, names that are no text."""

import codecs
import os
import re
import unicodedata

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ZEROS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True): "utf-16-le",
    (True, False): "utf-16-be",
}
"""Which of its first bytes are zeros."""


def decoded(data: bytes) -> str:
    """``data`` as text: UTF-8, or what a byte order mark says; the mark is taken off.

    Without a mark, zeros beside the first letter tell UTF-16 and UTF-32: no text begins with them.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    marked = next((name for mark, name in MARKS.items() if data.startswith(mark)), "")
    return data.decode(marked or _unmarked(data))


def _unmarked(data: bytes) -> str:
    """The encoding of a text that begins with an ASCII letter, as the names of columns do."""
    zeros = [byte == 0 for byte in data[:4]]
    return ZEROS.get(tuple(zeros), ZEROS.get(tuple(zeros[:2]), "utf-8"))


def composed(text: str) -> str:
    """The normal form NFC: one text for names that look the same, as é and e with an accent."""
    return unicodedata.normalize("NFC", text)


def shown_name(name: str) -> str:
    r"""A name from the file system as text; bytes that are no UTF-8 are written as \xe9."""
    return os.fsencode(name).decode(errors="backslashreplace")


def real_name(shown: str) -> str:
    r"""The name in the file system that `shown_name` shows, with its \xe9 as bytes again."""
    raw = re.sub(
        rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), shown.encode()
    )
    return os.fsdecode(raw)


def printable(text: str) -> str:
    r"""``text`` on one line: control characters are written as \n or \x1b."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
