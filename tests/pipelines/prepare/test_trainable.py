"""What a person is told to do with shards: a training that is not refused, or why there is none."""

import re
from pathlib import Path

import pytest

from apdist_verbs.start.data_check import check_data
from apdist_verbs.start.start import read_start
from tests.foreign import samples, write_tar
from tests.pictures import encoded, picture, write_folder
from tests.pipelines.test_cli import run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")


def checked(said: str) -> list[str]:
    """The words of the command that is next, which is not refused."""
    (words,) = re.findall(r"next, train on them: apdist train (.*)", said)
    assert "training images" in check_data(read_start(words.split())[1].config)
    return str(words).split()


def test_a_set_with_a_single_class_to_test_on_is_trained_without_measuring(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(Path("images"), dict.fromkeys("abcdef", 4))
    code, said, warned = run(["prepare", "folder", "images", "--out", "x"], capsys)
    assert code == 0
    assert "the split 'test' has 4 images of 1 class" in warned
    assert "a smaller share" in warned
    assert "--data.eval-split=" in checked(said)
    command = ["prepare", "folder", "images", "--out", "y", "--split-by-class", "0.6"]
    code, said, _ = run(command, capsys)
    assert "--data.eval-split=" not in checked(said)


def test_the_batch_that_is_next_leaves_room_for_images_that_are_held_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(Path("images"), {f"c{number}": 4 for number in range(66)})
    command = ["prepare", "folder", "images", "--out", "x", "--split-by-class", "1"]
    _, said, _ = run(command, capsys)
    words = checked(said)
    assert int(words[words.index("--training.batch-size") + 1]) < 256


def test_no_training_is_next_where_every_class_is_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [f"{number}.png,c{number}" for number in range(6)]
    for number in range(6):
        Path(f"{number}.png").write_bytes(encoded(picture(number, 0)))
    Path("list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    code, said, _ = run(["prepare", "csv", "list.csv", "--out", "x"], capsys)
    assert code == 0
    assert "next" not in said
    assert "no training on them: no class has two images" in said


def test_no_training_is_next_of_fewer_images_than_any_batch_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(Path("images"), {"a": 3, "b": 1, "c": 1})
    command = ["prepare", "folder", "images", "--out", "x", "--split-by-class", "1"]
    _, said, _ = run(command, capsys)
    assert "next" not in said
    assert "no training on them: the training images that have another of their class are 3" in said


def test_no_training_is_next_of_shards_that_are_not_for_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tar(Path("a.tar"), samples(4, 5))
    assert run(["prepare", "index", ".", "--split", "test"], capsys)[0] == 0
    code, said, _ = run(["prepare", "check", "."], capsys)
    assert (code, "next" in said) == (0, False)


def test_statistics_end_with_a_training_in_the_batch_that_they_count_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tar(Path("a.tar"), samples(4, 5))
    run(["prepare", "index", "."], capsys)
    _, said, _ = run(["prepare", "stats", "."], capsys)
    assert "no epoch" in said
    assert "next" not in said
    _, said, _ = run(["prepare", "stats", ".", "--batch-size", "8", "--group-size", "2"], capsys)
    assert "--training.batch-size 8" in " ".join(words := checked(said))
    assert words[words.index("--data.group-size") + 1] == "2"
