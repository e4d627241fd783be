"""Splits by class, and as a file says."""

from pathlib import Path

import pytest

from apdist.data.preparing.folder import (
    folder_classes,
    folder_items,
    scan_folder,
)
from apdist.data.preparing.splits import read_split_file, split_by_class
from tests.pictures import write_folder


def known_in(root: Path) -> list[str]:
    return [s for sources in folder_classes(scan_folder(root)).values() for s in sources]


def test_no_class_is_in_two_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {str(i): 2 for i in range(10)})
    folder = scan_folder(tmp_path)
    splits = split_by_class(folder_classes(folder), 0.8, seed=0)
    items = folder_items(folder, splits, 0)
    train = {i.label_name for i in items if i.split == "train"}
    test = {i.label_name for i in items if i.split == "test"}
    assert (len(train), len(test)) == (8, 2)
    assert not train & test


def test_classes_are_drawn_by_the_seed_and_are_these_on_every_machine() -> None:
    classes = {str(number): [f"{number}/a.png"] for number in range(10)}
    first, second = (
        {source for source, split in split_by_class(classes, 0.8, seed).items() if split == "test"}
        for seed in (0, 1)
    )
    assert first == {"6/a.png", "9/a.png"}
    assert second == {"1/a.png", "2/a.png"}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99, 1.5, -1.0])
def test_a_share_that_empties_a_split_is_refused(tmp_path: Path, share: float) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(ValueError, match="--split-by-class"):
        split_by_class(folder_classes(scan_folder(tmp_path)), share, seed=0)


def test_a_split_file_decides_and_leaves_out_what_it_does_not_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    table = tmp_path / "splits.tsv"
    table.write_text("path\tkind\tsplit\n a/0.png \tx\ttrain\nb/1.png\tx\tquery\n")
    folder = scan_folder(tmp_path / "images")
    splits = read_split_file(table, known_in(tmp_path / "images"))
    items = folder_items(folder, splits, 0)
    assert [(i.source, i.split, i.label) for i in items] == [
        ("a/0.png", "train", 0),
        ("b/1.png", "query", 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\na/0.png,train\n", "columns path and split, got file, split"),
        (
            "path,split\nz.png,train\n",
            "there, the first 'z.png'; expected paths like 'a/0.png'",
        ),
        ("path,split\na/0.png,my split\n", "no plain word"),
        ("path,split\na/0.png\n", "split '' is no plain word"),
        ("path,split\na/0.png,train\na/0.png,test\n", "into 'train' and into 'test'"),
        ("path,split\n", "names no file"),
        ("", "columns path and split, got nothing"),
    ],
)
def test_a_bad_split_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write_folder(tmp_path / "images", {"a": 2})
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split_file(tmp_path / "s.csv", known_in(tmp_path / "images"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text", ["path;split;\na/0.png;train;\n;;\n", "split\tpath\rtrain\ta/0.png\r"]
)
def test_a_split_file_is_read_as_spreadsheets_write_it(
    tmp_path: Path, text: str, encoding: str
) -> None:
    (tmp_path / "s.csv").write_bytes(text.encode(encoding))
    assert read_split_file(tmp_path / "s.csv", ["a/0.png"]) == {"a/0.png": "train"}


@pytest.mark.parametrize(
    ("path", "hint"), [("é\\0.png", "with / in place of"), ("e\u0301/0.png", "normal form")]
)
def test_a_path_that_is_nearly_known_is_refused_with_a_hint(
    tmp_path: Path, path: str, hint: str
) -> None:
    (tmp_path / "s.csv").write_text(f"path,split\n{path},train\n")
    with pytest.raises(ValueError, match=rf"not there, the first .*\(.*{hint}"):
        read_split_file(tmp_path / "s.csv", ["\u00e9/0.png"])


def test_rows_that_are_repeated_are_counted_and_used_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path / "images", {"a": 2})
    (tmp_path / "s.csv").write_text("path,split\n" + 3 * "a/0.png,train\n")
    splits = read_split_file(tmp_path / "s.csv", known_in(tmp_path / "images"))
    assert splits == {"a/0.png": "train"}
    assert "repeats 2 rows" in caplog.text


def test_pictures_of_one_class_are_refused_in_words_of_their_own() -> None:
    with pytest.raises(ValueError, match="all pictures are of one class, 'cat'; .* at least 2"):
        split_by_class({"cat": ["cat/1.jpg", "cat/2.jpg"]}, 0.8, 0)
    assert split_by_class({"cat": ["cat/1.jpg"]}, 1, 0) == {"cat/1.jpg": "train"}
