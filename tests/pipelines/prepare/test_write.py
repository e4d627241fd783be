"""Writing shards: what is said, what is refused, and that nothing is left half written."""

import errno
import os
import re
import tarfile
from pathlib import Path

import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist_verbs.prepare.write import Writing, named
from apdist_verbs.start.data_check import check_data
from apdist_verbs.start.start import read_start
from tests.pictures import write_folder
from tests.pipelines.test_cli import refused, run


def test_preparing_says_what_it_wrote_and_which_classes_are_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "my images", tmp_path / "my shards"
    write_folder(images, {"Äpfel": 3, "b": 1, "c": 4, "d": 2})
    code, said, _ = run(
        ["prepare", "folder", str(images), "--out", str(out), "--split-by-class", "0.75"], capsys
    )
    assert code == 0
    assert f"{out}: 10 images" in said.replace("\n", "")
    assert "1 class of a single image is left out" in said


def test_the_next_command_is_one_that_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_folder(tmp_path / "images", {"a": 5, "b": 6, "c": 1, "d": 3, "e": 3})
    monkeypatch.chdir(tmp_path)
    command = ["prepare", "folder", "images", "--out", "x", "--split-by-class", "0.6"]
    _, said, _ = run(command, capsys)
    (words,) = re.findall(r"next, train on them: apdist (train .*)", said)
    config = read_start(words.split()[1:])[1].config
    assert config.training.batch_size < 18
    assert "training images" in check_data(config)


def test_classes_of_nearly_one_name_are_said_once_and_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    images, out = tmp_path / "images", tmp_path / "shards"
    write_folder(images, {"1": 2, "1.0": 2, "Dog": 2, "DOG": 2, "cat": 2})
    code, said, _ = run(["prepare", "folder", str(images), "--out", str(out)], capsys)
    assert code == 0
    assert re.search(r"named as another one but .*: kept apart +│ +2 │ 1 = 1.0", said)
    assert len(set(read_catalogue(str(out)).labels.tolist())) == 5


def test_a_file_that_is_no_image_is_named_or_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "shards"
    write_folder(images, {"a": 3, "b": 3})
    (images / "a" / "note.JPG").write_text("no picture")
    command = ["prepare", "folder", str(images), "--out", str(out), "--split-by-class", "0.5"]
    message = refused(command, capsys)
    assert "a/note.JPG is no image" in message
    assert "--on-corrupt skip" in message
    assert not out.exists() or not list(out.iterdir())
    code, said, warned = run([*command, "--on-corrupt", "skip"], capsys)
    assert code == 0
    assert "skipped 1 file without a readable image" in warned
    assert "6 images" in said


def test_a_folder_without_a_readable_image_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "note.jpg").write_text("no picture")
    command = ["prepare", "folder", str(tmp_path / "images"), "--split-by-class", "0.5"]
    options = ["--out", str(tmp_path / "shards"), "--on-corrupt", "skip"]
    assert "none of the 2 files" in refused([*command, *options], capsys)
    assert not (tmp_path / "shards").exists()


def test_an_output_folder_with_content_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    command = ["prepare", "folder", str(tmp_path / "images"), "--split-by-class", "0.5"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert "is not empty" in refused([*command, "--out", str(tmp_path / "out")], capsys)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "is a file; choose a folder as --out"),
        ("file/below", "cannot be made (Not a directory)"),
        ("", "--out is empty; give a folder"),
    ],
)
def test_an_output_that_can_be_no_folder_is_refused(
    out: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    (tmp_path / "file").touch()
    command = ["prepare", "folder", "images", "--split-by-class", "0.5", "--out", out]
    assert message in refused(command, capsys)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_an_output_that_takes_no_file_is_refused_and_nothing_is_left(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "images", {"a": 2, "b": 2})

    def fail(tar: tarfile.TarFile, *_: object) -> None:
        raise OSError(reason, os.strerror(reason), tar.name)

    monkeypatch.setattr(tarfile.TarFile, "addfile", fail)
    command = ["prepare", "folder", str(tmp_path / "images"), "--split-by-class", "0.5"]
    message = refused([*command, "--out", str(tmp_path / "out")], capsys)
    assert f"000000.tar cannot be written ({os.strerror(reason)}); make room" in message
    assert not (tmp_path / "out").exists()


def test_a_list_of_refused_files_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = [(f"{number:03}.jpg", "is no image") for number in range(50)]
    told = named(refused, str(tmp_path / "file" / "mine"), "skipped 50 files")
    assert "mine-refused.tsv, where all would be named, cannot be written: " in told
    assert "): 000.jpg is no image; " in told


@pytest.mark.parametrize("option", ["shard_mib", "seed"])
def test_a_number_that_is_too_small_is_refused(option: str) -> None:
    least = {"shard_mib": 1, "seed": 0}[option]
    assert Writing(out="x", **{option: least})
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} must be at least {least}"):
        Writing(out="x", **{option: least - 1})
