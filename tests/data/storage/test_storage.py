from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import StorageError


def test_a_range_is_that_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    assert storage.read_range(str(tmp_path / "file"), 10, 5) == bytes(range(10, 15))


def test_a_range_beyond_the_end_is_an_error_that_counts_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(StorageError, match="ends 2 bytes early"):
        storage.read_range(str(tmp_path / "file"), 1, 4)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing here does not exist"):
        storage.read_bytes(str(tmp_path / "nothing here"))


def test_writing_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b"), b"x")
    storage.write_bytes(str(tmp_path / "a" / "b"), b"yz")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    assert storage.read_bytes(str(tmp_path / "a" / "b")) == b"yz"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write_half() -> None:
        with storage.local_target(str(target)) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/x cannot be made"):
        storage.write_bytes(str(tmp_path / "file" / "x" / "y"), b"z")


def test_listing_tells_files_from_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tar").touch()
    (tmp_path / "b.txt").touch()
    assert storage.list_files(str(tmp_path), ".tar") == ["a.tar"]
    assert storage.list_folders(str(tmp_path)) == ["folder"]
    assert storage.list_files(str(tmp_path / "missing")) == []


def test_the_last_file_takes_its_folder_along(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b"), b"x")
    storage.remove(str(tmp_path / "a" / "b"))
    assert storage.is_empty(str(tmp_path))


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(StorageError, match="names no bucket"):
        storage.read_bytes("s3:///key")


@pytest.mark.parametrize(
    ("root", "name", "joined"),
    [
        ("s3://b/p/", "x", "s3://b/p/x"),
        ("/data", "x", "/data/x"),
        ("/data", "/other/x", "/other/x"),
        ("/data", "s3://b/x", "s3://b/x"),
        ("https://h/p", "x", "https://h/p/x"),
        ("https://h/p/", "http://h/x", "http://h/x"),
    ],
)
def test_join(root: str, name: str, joined: str) -> None:
    assert storage.join(root, name) == joined
