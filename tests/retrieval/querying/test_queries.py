"""Folders, lists and prefixes to addresses."""

from pathlib import Path

import pytest

from apdist.data import storage
from apdist.retrieval.querying.queries import pictures_at
from tests.pictures import encoded, picture
from tests.s3_server import S3Server


def write(root: str) -> None:
    for name in ("b.png", "a dir/ä.JPG", ".hidden.png", "a dir/deep/c.webp"):
        storage.write_bytes(storage.join(root, name), encoded(picture(0, 0)))
    storage.write_bytes(storage.join(root, "text.md"), b"no picture")
    storage.write_bytes(storage.join(root, "list.txt"), b"\xef\xbb\xbfb.png\r\n\r\n/else/x.png\n")
    table = "Datei;path\n1;a dir/ä.JPG\n2;https://host/c.png\n3;\n4;gs://other/c.png\n"
    storage.write_bytes(storage.join(root, "list.csv"), table.encode())


@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.s3)])
def test_a_place_stands_for_the_pictures_in_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = str(tmp_path)
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3")
        root = f"s3://{server.bucket}/queries"
    write(root)
    pictures = ["a dir/deep/c.webp", "a dir/ä.JPG", "b.png"]
    assert sorted(pictures_at([f"{root}/"])) == [f"{root}/{name}" for name in pictures]
    assert pictures_at([f"{root}/list.txt"]) == [f"{root}/b.png", "/else/x.png"]
    assert pictures_at([f"{root}/list.csv", f"{root}/b.png"]) == [
        f"{root}/a dir/ä.JPG",
        "https://host/c.png",
        "gs://other/c.png",
        f"{root}/b.png",
    ]
    assert pictures_at([f"{root}/text.md"]) == [f"{root}/text.md"]
    if kind == "s3":
        with pytest.raises(ValueError, match="queries/none holds no picture"):
            pictures_at([f"{root}/none"])
    with pytest.raises(ValueError, match="no column 'paht'; did you mean 'path'"):
        pictures_at([f"{root}/list.csv"], "paht")


def test_what_holds_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("ä.png".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder holds no picture; expected .jpg, .png or others"):
        pictures_at([tmp_path / "folder"])
    with pytest.raises(ValueError, match="empty.txt names no picture; expected an address a line"):
        pictures_at([tmp_path / "empty.txt"])
    with pytest.raises(ValueError, match=r"latin.txt is not a text file in UTF-8"):
        pictures_at([tmp_path / "latin.txt"])
    with pytest.raises(storage.MissingError, match=r"gone.csv does not exist"):
        pictures_at([tmp_path / "gone.csv"])
    assert pictures_at([tmp_path / "gone.png"]) == [f"{tmp_path}/gone.png"]
