"""Which shards lie somewhere."""

import gzip
import os
from pathlib import Path

import pytest

from apdist.data.preparing.finding import (
    COMPRESSED_SHARD,
    LINKED_AGAIN,
    expand_braces,
    find_shards,
)
from apdist.data.preparing.kinds import HIDDEN
from apdist.data.preparing.tally import Tally


def test_shards_are_found_once_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("a.tar", "B.TAR", "deep.tar/c.tar", "._a.tar", "d.tar.gz", "e.tgz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "again.tar").symlink_to("a.tar")
    (tmp_path / "lost.tar").symlink_to("nowhere.tar")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "x").symlink_to("deep.tar")
    tally = Tally()
    assert find_shards(str(tmp_path), (), tally) == ["B.TAR", "a.tar", "deep.tar/c.tar", "lost.tar"]
    assert {kind: number for kind, (number, _) in tally.kinds.items()} == {
        HIDDEN: 1,
        COMPRESSED_SHARD: 2,
        LINKED_AGAIN: 1,
        "link to a folder that is read already": 2,
    }


def test_a_folder_of_compressed_shards_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(ValueError, match=r"no .tar .*; 1 compressed tar: .* unpack it first"):
        find_shards(str(tmp_path))
    with pytest.raises(ValueError, match="patterns have braces"):
        find_shards(str(tmp_path), ("*.tar",))
    (tmp_path / os.fsdecode(b"\xe9.tar")).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"shard '\\\\xe9.tar' is no UTF-8; rename it"):
        find_shards(str(tmp_path))


def test_braces_are_spelled_out() -> None:
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{x,y}-{0..1}") == ["x-0", "x-1", "y-0", "y-1"]
    assert expand_braces("plain.tar") == ["plain.tar"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a-{0..1", "without its other half"),
        ("a-{x}", "expected {000..031} or {a,b}, got {x}"),
        ("a-{5..3}.tar", "the range {5..3} runs backwards"),
        ("a-{0..999999999}.tar", "spells out more than 1000000 names"),
        ("{0..9999}-{0..9999}.tar", "spells out more than 1000000 names"),
    ],
)
def test_bad_braces_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand_braces(pattern)
    with pytest.raises(ValueError, match="names 'a.tar' twice"):
        find_shards("x", ("a.tar", "{a,b}.tar"))
