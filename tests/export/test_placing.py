"""An export lies there whole or not at all."""

from pathlib import Path

import pytest

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
