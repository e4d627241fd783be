"""Disks: full ones, and paths that are nearly right."""

import errno
import os
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import MissingError, StorageError


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_disk_without_room_for_more_is_told_with_the_remedy() -> None:
    with pytest.raises(StorageError, match=r"/dev/full cannot be written \(No space .*make room"):
        storage.append_bytes("/dev/full", b"x")


def test_a_pipe_is_read_as_a_file_is() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"token")
    os.close(writing)
    try:
        assert storage.read_bytes(f"/dev/fd/{reading}") == b"token"
    finally:
        os.close(reading)


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


def test_a_read_only_disk_is_told_with_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("write_bytes", "unlink"):  # such a disk refuses to remove what is not there
        monkeypatch.setattr(Path, name, refuse)
    for write in (storage.write_bytes, storage.create):
        with pytest.raises(StorageError, match=r"/a cannot be written \(Read-only.*make room"):
            write(str(tmp_path / "a"), b"x")


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_created_once_with_and_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    uri = str(tmp_path / "claim")
    assert storage.create(uri, b"first") is True
    assert storage.create(uri, b"second") is False
    assert storage.read_bytes(uri) == b"first"
    assert os.listdir(tmp_path) == ["claim"]


def test_a_disk_that_fills_under_a_writer_is_told_with_the_file(tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    told = f"{target} cannot be written .No space left on device.; make room"
    with pytest.raises(StorageError, match=told), storage.local_target(str(target)):
        raise OSError(errno.ENOSPC, "[Errno 28] Error writing bytes to file.")  # pyarrow's
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BlockingIOError), storage.local_target(str(target)):
        raise OSError(errno.EAGAIN, "another reason")


def test_a_file_of_another_account_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)  # an account that may read all runs the tests, too
    with pytest.raises(StorageError, match=r"/a cannot be read \(permission denied\); let this"):
        storage.version("/a")
