"""What lies in a folder beside pictures is passed over and counted by kind; nothing vanishes."""

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from apdist.data.preparing.folder import (
    BESIDE,
    JOINED,
    NO_UTF8,
    StoredImage,
    encode_file,
    folder_items,
    scan_folder,
)
from apdist.data.preparing.kinds import HIDDEN, SYSTEM
from tests.pictures import encoded, picture, write_folder

IMAGE = encoded(picture(0, 0), "JPEG")
NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def put(root: Path, *names: str, data: bytes = IMAGE) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def sources(root: Path) -> list[str]:
    return [source for pictures in scan_folder(root).files.values() for source in pictures]


def test_files_that_are_no_pictures_are_counted_by_their_extension(tmp_path: Path) -> None:
    put(tmp_path, "a/0.jpg")
    names = (
        "Thumbs.db",
        "desktop.ini",
        "notes.txt",
        "more.TXT",
        "0.xmp",
        "v.mov",
        "README",
        "zero",
    )
    put(tmp_path, *(f"a/{name}" for name in names), data=b"hello")
    put(tmp_path, "a/zero", "labels.csv", data=b"")
    folder = scan_folder(tmp_path)
    assert list(folder.files["a"]) == ["a/0.jpg"]
    counts = {kind: number for kind, (number, _) in folder.tally.kinds.items()}
    assert counts == {
        **{f"no picture: .{last}": 1 for last in ("db", "ini", "xmp", "mov", "csv")},
        "no picture: .txt": 2,
        "no picture: no extension": 2,
    }
    assert folder.tally.kinds["no picture: .csv"] == (1, "labels.csv")


def test_what_systems_leave_is_passed_over_even_where_it_holds_pictures(tmp_path: Path) -> None:
    put(tmp_path, "a/0.jpg", "a/._0.jpg", "a/.DS_Store", ".git/x.jpg")
    put(tmp_path, "a/@eaDir/0.jpg/small.jpg", "__MACOSX/a/0.jpg", "a/$RECYCLE.BIN/1.jpg")
    folder = scan_folder(tmp_path)
    assert list(folder.files) == ["a"]
    assert list(folder.files["a"]) == ["a/0.jpg"]
    assert {kind: number for kind, (number, _) in folder.tally.kinds.items()} == {
        HIDDEN: 3,
        SYSTEM: 3,
    }


def test_pipes_and_sockets_are_counted_and_never_opened(tmp_path: Path) -> None:
    put(tmp_path, "a/0.jpg")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path / "a")  # the address of a socket has to be short
        try:
            server.bind("sock")
        finally:
            os.chdir(here)
        folder = scan_folder(tmp_path)
    assert list(folder.files["a"]) == ["a/0.jpg"]
    assert folder.tally.number("fifo, socket or device") == 2


@pytest.mark.parametrize("name", ["noext", "photo.img", "hash.0f3c", "x.jpg~", "x.jfif", "X.JPEG"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_picture_is_one_whatever_its_name(tmp_path: Path, name: str, kind: str) -> None:
    put(tmp_path, f"a/{name}", data=encoded(picture(0, 0), kind))
    assert sources(tmp_path) == [f"a/{name}"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jpg", b"", "is empty"),
        ("a.jpg", b"<html>", "is no image that Pillow can read"),
        ("a.jpg", IMAGE[:300], "cannot be decoded"),
        ("noext", IMAGE[:300], "cannot be decoded"),
        ("a.HEIC", b"\0\0\0\x18ftypheic", "convert it to JPEG or PNG"),
        ("a.NEF", encoded(picture(0, 0), "TIFF"), "is a camera's raw file"),
    ],
)
def test_a_promised_picture_that_cannot_be_read_is_damaged_and_not_passed_over(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    put(tmp_path, f"a/{name}", data=data)
    assert sources(tmp_path) == [f"a/{name}"]
    assert reason in encode_file(StoredImage(str(tmp_path / "a" / name), 0)).refused


def test_links_to_folders_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    root = tmp_path / "images"
    put(root, "a/0.jpg", "b/0.jpg")
    put(tmp_path, "disk/more/1.jpg", "disk/class/2.jpg")
    (root / "a" / "more").symlink_to("../../disk/more")
    (root / "c").symlink_to("../disk/class")
    (root / "d").mkdir()
    (root / "d" / "all").symlink_to("../../disk/class")
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "self").symlink_to(".")
    (root / "b" / "deeper").mkdir()
    (root / "b" / "deeper" / "top").symlink_to(root)
    folder = scan_folder(root)
    assert [source for pictures in folder.files.values() for source in pictures] == [
        *("a/0.jpg", "a/more/1.jpg", "b/0.jpg", "c/2.jpg", "d/all/2.jpg")
    ]
    assert {kind: number for kind, (number, _) in folder.tally.kinds.items()} == {
        "link to a folder that it lies in": 3
    }


def test_links_in_a_circle_are_refused_when_they_are_read(tmp_path: Path) -> None:
    put(tmp_path, "a/0.jpg")
    for name, target in (("x.png", "y.png"), ("y.png", "x.png"), ("class", "class")):
        (tmp_path / "a" / name).symlink_to(target)
    scanned = scan_folder(tmp_path)
    assert scanned.tally.number("link that leads nowhere") == 1
    found = scanned.files["a"]
    assert list(found) == ["a/0.jpg", "a/x.png", "a/y.png"]
    refused = encode_file(StoredImage(found["a/x.png"], 0)).refused
    assert refused == "cannot be read (too many levels of symbolic links)"


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "TEST"), ("train",)])
def test_folders_of_splits_above_the_classes_are_used(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    put(
        tmp_path, *(f"{split}/{c}/{n}.jpg" for split in names for c in ("cat", "dog") for n in "01")
    )
    put(tmp_path, f"{names[0]}/beside.jpg")
    folder = scan_folder(tmp_path)
    assert list(folder.files) == ["cat", "dog"]
    assert set(folder.splits.values()) == {name.lower() for name in names}
    assert folder.tally.kinds == {BESIDE: (1, f"{names[0]}/beside.jpg")}
    items = folder_items(folder, folder.splits, 0)
    assert {(i.label, i.label_name) for i in items} == {(0, "cat"), (1, "dog")}
    assert all(item.source.lower().startswith(item.split) for item in items)


def test_splits_without_classes_and_splits_beside_classes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "x/train/0.jpg", "x/val/1.jpg", "y/train/a/0.jpg", "y/test/a/0.jpg", "y/b/0.jpg")
    with pytest.raises(ValueError, match="<split>/<class>/<image>, and 2 pictures lie elsewhere"):
        scan_folder(tmp_path / "x")
    with pytest.raises(ValueError, match=r"folders of splits \(test, train\) beside 'b'"):
        scan_folder(tmp_path / "y")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, "bus/0.jpg", "train/0.jpg", "train/night/1.jpg")
    folder = scan_folder(tmp_path)
    assert (list(folder.files), folder.splits) == (["bus", "train"], {})


def test_pictures_that_lie_in_no_class_folder_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "a/0.jpg", "1.jpg", "2.jpg")
    assert scan_folder(tmp_path).tally.number(BESIDE) == 2
    put(tmp_path, "flat/1.jpg")
    with pytest.raises(ValueError, match="and 1 pictures lie elsewhere"):
        scan_folder(tmp_path / "flat")


def test_a_folder_without_a_picture_is_counted_as_no_class(tmp_path: Path) -> None:
    put(tmp_path, "a/b/0.jpg")
    put(tmp_path, "notes/x.txt", data=b"x")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    folder = scan_folder(tmp_path)
    assert list(folder.files) == ["a"]
    assert folder.tally.kinds["folder without a picture"] == (2, "empty")


def test_a_class_in_two_unicode_normal_forms_is_one(tmp_path: Path) -> None:
    put(tmp_path, f"{NFC}/0.jpg", f"{NFD}/1.jpg", "a/0.jpg")
    folder = scan_folder(tmp_path)
    assert list(folder.files) == ["a", NFC]
    assert [name.rsplit("/", 2)[1] for name in folder.files[NFC].values()] == [NFD, NFC]
    assert folder.tally.number(JOINED) == 1


def test_files_in_two_unicode_normal_forms_are_two(tmp_path: Path) -> None:
    put(tmp_path, f"a/{NFC}.jpg", f"a/{NFD}.jpg")
    assert sources(tmp_path) == [f"a/{NFD}.jpg", f"a/{NFC}.jpg"]


def test_names_that_are_no_utf_8_are_shown_and_can_be_opened(tmp_path: Path) -> None:
    put(tmp_path, os.fsdecode(b"caf\xe9/\xff.jpg"), "a/0.jpg")
    folder = scan_folder(tmp_path)
    assert list(folder.files) == ["a", r"caf\xe9"]
    ((source, path),) = folder.files[r"caf\xe9"].items()
    assert source == r"caf\xe9/\xff.jpg"
    assert encode_file(StoredImage(path, 0)).data == IMAGE
    assert folder.tally.kinds == {NO_UTF8: (1, source)}
    put(tmp_path, os.fsdecode(b"a/\xe9.jpg"), r"a/\xe9.jpg")
    with pytest.raises(ValueError, match="two files that are shown as"):
        scan_folder(tmp_path)


def test_classes_that_are_whole_numbers_keep_them(tmp_path: Path) -> None:
    write_folder(tmp_path, {"7": 1, "10": 1})
    items = folder_items(scan_folder(tmp_path), {"7/0.png": "x", "10/0.png": "x"}, 0)
    assert {item.label_name: item.label for item in items} == {"7": 7, "10": 10}
