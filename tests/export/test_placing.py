"""An export lies there whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from apdist.data.storage import StorageError
from apdist.export import placing
from apdist.export.placing import place, refuse_occupied


def made(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "one").write_text("1")
    return folder


def test_files_come_into_a_new_folder_or_an_empty_one(tmp_path: Path) -> None:
    source = made(tmp_path / "made")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "new" / "deep", tmp_path / "empty"):
        place(source, str(out))
        assert (out / "inner" / "one").read_text() == "1"
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("2")
    with pytest.raises(ValueError, match="is not empty; choose another --out"):
        refuse_occupied(str(out))
    with pytest.raises(ValueError, match="is not empty"):
        place(made(tmp_path / "made"), str(out))
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_file_in_place_of_the_folder_is_not_to_be_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("3")
    with pytest.raises(
        ValueError, match="file is a file; expected a new or empty folder"
    ) as refused:
        refuse_occupied(str(tmp_path / "file"))
    assert "remove" not in str(refused.value)


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    source = made(tmp_path / "made")
    for path in (source, source / "inner"):
        path.chmod(0o700)  # as a temporary folder is
    (source / "inner" / "one").chmod(0o600)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    before = os.umask(0o022)
    try:
        place(source, str(shared / "out"))
    finally:
        os.umask(before)
    kept = shared.stat().st_mode & 0o2000  # some file systems have no such bit
    for name, expected in {"": 0o755 | kept, "inner": 0o755 | kept, "inner/one": 0o644}.items():
        assert stat.S_IMODE((shared / "out" / name).stat().st_mode) == expected


def test_a_full_disk_is_told_by_the_folder_and_the_remedy_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    source = made(tmp_path / "made")
    monkeypatch.setattr(placing.shutil, "copyfile", full)
    with pytest.raises(StorageError, match=r"/out cannot be written \(No space .*make room there"):
        place(source, str(tmp_path / "there" / "out"))
    assert list((tmp_path / "there").iterdir()) == []
