"""Members of tar files."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from apdist.data.preparing.tars import DamageError, members
from tests.data.preparing.catalogued import IMAGE, cut
from tests.foreign import (
    write_tar,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", r"is no tar \(empty file\)"),
        (lambda data: b"hello" * 999, r"is no tar \(invalid header\)"),
        (gzip.compress, "is compressed with gzip; .* unpack it first"),
        (lambda data: data + data, "goes on behind its end mark, after byte"),
        (
            lambda data: data[:1541] + b"\x7f" + data[1542:],
            r"at or after byte 1536, in or behind 'a.jpg' \(bad checksum",
        ),
    ],
)
def test_what_is_no_sound_tar_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 700), ("b.jpg", IMAGE)])
    data = change((tmp_path / "a.tar").read_bytes())
    with pytest.raises(DamageError, match=message):
        list(members(io.BytesIO(data), lambda name: False))


def test_a_tar_with_one_of_its_two_end_blocks_is_whole(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 512)])
    cut(tmp_path, 3 * 512)
    with (tmp_path / "a.tar").open("rb") as file:
        assert [member.data for member in members(file, lambda name: True)] == [b"x" * 512]
