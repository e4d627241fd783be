"""Disks: full ones, and paths that are nearly right."""

from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import MissingError, StorageError


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_disk_without_room_for_more_is_told_with_the_remedy() -> None:
    with pytest.raises(StorageError, match=r"/dev/full cannot be written \(No space .*make room"):
        storage.append_bytes("/dev/full", b"x")


@pytest.mark.parametrize(
    ("there", "asked", "told"),
    [
        ("Bilder", "bilder/a.tar", "'Bilder' is there, with other capitals"),
        ("cafe\u0301", "caf\u00e9", "is there, in another Unicode normal form"),
        ("photos", "C:\\photos\\a.tar", r"paths have / here in place of \\, and a drive has"),
        ("photos", "photos\\a.tar", r"paths have / here in place of \\$"),
        ("photos", "videos", "check the path"),
    ],
)
def test_a_path_that_is_nearly_right_gets_a_hint(
    tmp_path: Path, there: str, asked: str, told: str
) -> None:
    (tmp_path / there).mkdir()
    with pytest.raises(MissingError, match=told):
        storage.read_bytes(str(tmp_path / asked))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/x cannot be made"):
        storage.write_bytes(str(tmp_path / "file" / "x" / "y"), b"z")
