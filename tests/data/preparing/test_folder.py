import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apdist.data.preparing.folder import (
    StoredImage,
    encode_file,
    scan_folder,
)
from apdist.data.preparing.kinds import HIDDEN
from tests.pictures import encoded, picture, write_folder


def test_classes_are_folders_and_images_lie_anywhere_below(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ÄÖ ü": 2, "b": 1})
    (tmp_path / "b" / "deeper").mkdir()
    (tmp_path / "b" / "deeper" / "X.JPG").write_bytes(encoded(picture(0, 0), "JPEG"))
    (tmp_path / "b" / ".hidden").touch()
    (tmp_path / "notes.txt").touch()
    folder = scan_folder(tmp_path)
    assert list(folder.files) == ["b", "ÄÖ ü"]
    assert list(folder.files["b"]) == ["b/0.png", "b/deeper/X.JPG"]
    assert folder.tally.kinds == {
        HIDDEN: (1, "b/.hidden"),
        "no picture: .txt": (1, "notes.txt"),
    }


@pytest.mark.parametrize("make", [False, True])
def test_an_empty_or_missing_folder_is_refused(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "x" / "empty class").mkdir(parents=True)
    with pytest.raises(ValueError, match="<class>/<image>"):
        scan_folder(tmp_path / "x")


def test_common_files_are_stored_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.JPEG"
    path.write_bytes(encoded(picture(0, 0), "JPEG"))
    image = encode_file(StoredImage(str(path), 0))
    assert image.data == path.read_bytes()
    assert (image.extension, image.width, image.height) == ("jpg", 24, 24)


def test_rare_formats_are_stored_as_png(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(encoded(picture(0, 0), "BMP"))
    image = encode_file(StoredImage(str(path), 0))
    assert image.extension == "png"
    assert image.data[:4] == b"\x89PNG"


def test_large_images_are_shrunk_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("RGB", (200, 100))))
    image = encode_file(StoredImage(str(path), 50))
    assert (image.width, image.height, image.extension) == (50, 25, "jpg")


def test_a_link_to_nothing_is_refused_when_it_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "a" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    for name in ("class of another disk", "a/also one"):
        (tmp_path / name).symlink_to(tmp_path / "not there", target_is_directory=True)
    scanned = scan_folder(tmp_path)
    assert scanned.tally.number("link that leads nowhere") == 2
    (found,) = scanned.files.values()
    assert list(found) == ["a/0.png", "a/1.png", "a/lost.png"]
    refused = encode_file(StoredImage(found["a/lost.png"], 0)).refused
    assert refused == "cannot be read (no such file or directory)"


def test_a_folder_that_may_not_be_read_is_an_error_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    real = os.scandir

    def scandir(path: Any) -> Any:  # root may read everything
        if os.fspath(path) == str(tmp_path / "b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="b'"):
        scan_folder(tmp_path)


def test_a_file_that_is_no_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    assert "no image" in encode_file(StoredImage(str(tmp_path / "a.jpg"), 0)).refused
