"""`apdist prepare folder`, on folders as people have them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apdist.data.catalogue.catalogue import read_catalogue
from tests.pictures import encoded, write_folder
from tests.pipelines.test_cli import refused, run


@pytest.fixture
def mess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have them, with seven damaged pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    images = tmp_path / "images"
    write_folder(images, {"a": 3, "b": 3, "c": 2})
    for number in range(7):
        (images / "a" / f"bad\n{number}.jpg").touch()
    for name in ("a/notes.txt", "b/Thumbs.db", "b/.DS_Store", "labels.csv"):
        (images / name).write_text("x")
    (images / "b" / "again.png").symlink_to("../c/0.png")
    (images / "c" / "up").symlink_to("..")
    floats = Image.fromarray(np.full((4, 4), 3, np.float32))
    (images / "c" / "float.tif").write_bytes(encoded(floats, "TIFF"))
    return images


def test_damaged_pictures_are_named_at_once_and_in_a_file_where_they_are_many(
    mess: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "folder", "images", "--out", "data/mine", "--split-by-class", "0.5"]
    message = refused(command, capsys)
    assert "no readable image in 7 of 17 files, all named in data/mine-refused.tsv" in message
    assert r"a/bad\n0.jpg is empty (0 bytes); a/bad\n1.jpg is empty" in message
    assert message.count("is empty") == 5
    assert "remove them, or use --on-corrupt skip" in message
    listed = Path("data/mine-refused.tsv").read_text().splitlines()
    assert listed == [f"a/bad\\n{number}.jpg\tis empty (0 bytes)" for number in range(7)]
    assert not Path("data/mine").exists() or not list(Path("data/mine").iterdir())


def test_what_was_passed_over_or_changed_is_in_the_closing_table(
    mess: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "folder", "images", "--out", "mine", "--split-by-class", "0.5"]
    code, said, warned = run([*command, "--on-corrupt", "skip"], capsys)
    assert code == 0
    assert "mine: 10 images" in said
    assert "skipped 7 files without a readable image, all named in mine-refused.tsv" in warned
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    assert sorted(rows) == [
        ["damaged picture: skipped", "7", r"a/bad\n0.jpg"],
        ["float picture with values outside of 0 to 1: clipped", "1", "c/float.tif"],
        ["hidden: its name begins with a dot", "1", "b/.DS_Store"],
        ["link to a folder that it lies in", "1", "c/up"],
        ["no picture: .csv", "1", "labels.csv"],
        ["no picture: .db", "1", "b/Thumbs.db"],
        ["no picture: .txt", "1", "a/notes.txt"],
        ["same bytes as an image of another class", "1", rows[-1][2]],
    ]
    assert set(rows[-1][2].split(" = ")) == {"b/again.png", "c/0.png"}


def test_a_clean_folder_has_no_closing_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    command = ["prepare", "folder", str(tmp_path / "images"), "--split-by-class", "0.5"]
    _, said, warned = run([*command, "--out", str(tmp_path / "out")], capsys)
    assert "to look at" not in said
    assert not warned


def test_folders_of_splits_are_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_folder(tmp_path / "images" / split, {"a": 2, "b": 2})
    command = ["prepare", "folder", "images", "--out"]
    code, said, _ = run([*command, "mine"], capsys)
    assert code == 0
    assert "images holds folders of splits (train, val) above the classes" in said
    share = ["other", "--split-by-class", "0.5"]
    assert "--split-by-class 0.5 has no effect: images holds" in refused([*command, *share], capsys)
    catalogue = read_catalogue("mine")
    assert catalogue.splits() == {"train": 4, "val": 4}
    assert set(catalogue.labels.tolist()) == {0, 1}
    Path("s.csv").write_text("path,split\ntrain/a/0.png,x\nval/b/1.png,y\n")
    run([*command, "other", "--split-file", "s.csv"], capsys)
    assert read_catalogue("other").splits() == {"x": 1, "y": 1}
