"""The folder of an index: claimed before the work, by one writer, and clean after a refusal."""

import os
from pathlib import Path

import pytest

from apdist.retrieval.index import load_index, save_index
from apdist.retrieval.index_folder import claimed
from tests.retrieval.indexes import small_index


def test_an_index_fills_a_link_and_the_current_folder_in_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "index").symlink_to("disk")
    save_index(small_index(), tmp_path / "index")
    assert (tmp_path / "index").is_symlink()
    assert len(load_index(tmp_path / "disk", model_id="model A")) == 40
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_index(small_index(), ".")
    assert len(load_index(".", model_id="model A")) == 40


def test_a_second_writer_is_refused_while_the_first_one_works(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "index"),
        pytest.raises(ValueError, match="is being written by another process"),
    ):
        save_index(small_index(), tmp_path / "index")


def test_who_reads_a_half_written_index_is_told_so(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "index"),
        pytest.raises(ValueError, match=r"index\.json does not exist.*still being written"),
    ):
        load_index(tmp_path / "index", model_id=None)


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "entries.parquet").write_bytes(b"half")
    save_index(small_index(), tmp_path / "index")
    assert len(load_index(tmp_path / "index", model_id="model A")) == 40


def test_a_folder_that_nobody_can_make_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"cannot be written \(not a directory\); give another"),
        claimed(tmp_path / "file" / "index"),
    ):
        pytest.fail("the work began")


def test_work_that_fails_leaves_folders_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    index = small_index()
    index.settings["model_id"] = object()  # no JSON: the last of the files cannot be written
    for folder in ("old", "new/er"):
        with pytest.raises(TypeError):
            save_index(index, tmp_path / folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]
    assert not os.listdir(tmp_path / "old")
