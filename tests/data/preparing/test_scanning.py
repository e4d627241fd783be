"""One pass over a shard of others: what is found, and what is refused."""

import io
import os
import re
import tarfile
from pathlib import Path

import pytest

from apdist.data.preparing.kinds import HIDDEN, SYSTEM
from apdist.data.preparing.samples import META, NO_EXTENSION
from apdist.data.preparing.scanning import ShardError
from tests.data.preparing.catalogued import HAS_TAR, IMAGE, catalogue, cut
from tests.foreign import (
    Files,
    sample,
    samples,
    write_tar,
)
from tests.pictures import encoded, picture

PNG = encoded(picture(0, 0))


@pytest.mark.parametrize(
    ("files", "rules", "message"),
    [
        ([("k.jpg", IMAGE)], {}, r"has no .cls for --label cls; it has .jpg"),
        ([("k.jpg", IMAGE), ("k.cls", b" ")], {}, "has an empty .cls"),
        ([("k.jpg", IMAGE), ("k.cls", b"\xff")], {}, "no UTF-8 text"),
        ([("k.jpg", b""), ("k.cls", b"1")], {}, r"is empty \(0 bytes\)"),
        ([("k.jpg", IMAGE[:-30]), ("k.cls", b"1")], {}, "cannot be decoded .* truncated"),
        ([("k.png", PNG[:100]), ("k.cls", b"1")], {}, "cannot be decoded .* truncated"),
        ([("k.jpg", b"no image"), ("k.cls", b"1")], {}, "is no image that Pillow can read"),
        ([("k.mp4", b"x"), ("k.cls", b"1")], {}, "has no image member; it has .mp4, .cls"),
        ([("k.jpg", IMAGE), ("k.cls", b"1")], {"image_extension": "png"}, "has no .png; it has"),
        ([("k.a.jpg", IMAGE), ("k.b.jpg", IMAGE)], {}, "several images .* --image-extension"),
        ([("k.jpg", IMAGE), ("k.JPG", IMAGE), ("k.cls", b"1")], {}, "has two members .jpg"),
        ([("k.jpg", IMAGE)], {"label": "json:id"}, "has no .json for --label json:id"),
        ([("k.jpg", IMAGE), ("k.json", b"{")], {"label": "json:id"}, "cannot be read"),
        ([("k.jpg", IMAGE), ("k.json", b'{"a": 1}')], {"label": "json:id"}, "'id' in its .json, w"),
        ([("k.jpg", IMAGE), ("k.json", b"[1]")], {"label": "json:id"}, "which has no object"),
        ([("k.jpg", IMAGE), ("k.json", b'{"id": 1.5}')], {"label": "json:id"}, "has 1.5 in"),
        (
            [("k.jpg", IMAGE), ("k.json", b'{"id": "half \\ud800"}')],
            {"label": "json:id"},
            "label that is no UTF-8 text",
        ),
        (
            [("k.jpg", IMAGE), ("k.cls", b"1"), ("k.json", b'{"name": "\\udc00"}')],
            {"names": "json:name"},
            "name that is no UTF-8 text",
        ),
        ([("k.jpg", IMAGE)], {"label": "key:(x)"}, "'k' that --label key:.x. does not match"),
        ([("k.jpg", IMAGE), ("k.cls", b"1")], {"split": "shard:(x)"}, "--split shard:.x. does"),
        (
            [("k.jpg", IMAGE), ("k.json", b'{"split": "my split"}'), ("k.cls", b"1")],
            {"split": "json:split"},
            "split 'my split', which is no plain word",
        ),
    ],
)
def test_a_sample_that_cannot_be_used_is_named_or_skipped_and_counted(
    tmp_path: Path, files: Files, rules: dict[str, str], message: str
) -> None:
    write_tar(tmp_path / "a.tar", files)
    where = r"a.tar: sample 'k' at byte \d+ "
    with pytest.raises(ShardError, match=f"{where}.*{message}.*--on-corrupt skip"):
        catalogue(tmp_path, **rules)
    assert not (tmp_path / "index.parquet").exists()
    good = sample("good", 0, 0, id=1, split="train", name="cup")
    shard = "x.tar" if rules.get("split") == "shard:(x)" else "b.tar"
    key = [("x" + name, data) for name, data in good]
    write_tar(tmp_path / shard, [(n.replace(".jpg", ".png"), d) for n, d in key] if
              rules.get("image_extension") else key)  # fmt: skip
    result = catalogue(tmp_path, skip=True, **rules)
    assert (result.num_problems, len(result.catalogue)) == (1, 1)
    assert "sample 'k'" in result.problems[0][0]


def test_a_key_that_comes_again_is_refused_with_its_place(tmp_path: Path) -> None:
    files = samples(1)
    write_tar(tmp_path / "a.tar", files + files[:4])
    with pytest.raises(ShardError, match=r"'c0/0000' at byte \d+ has a key that came before"):
        catalogue(tmp_path)
    result = catalogue(tmp_path, skip=True)
    assert (len(result.catalogue), result.num_problems) == (3, 1)


def test_a_shard_that_is_cut_anywhere_is_refused_and_skipping_keeps_what_is_whole(
    tmp_path: Path,
) -> None:
    write_tar(tmp_path / "a.tar", samples(2))
    whole = (tmp_path / "a.tar").read_bytes()
    table = catalogue(tmp_path).catalogue.table.to_pylist()
    end = max(i for i in range(0, len(whole), 512) if whole[i : i + 512].strip(b"\0")) + 512
    for size in [*range(0, end, 512), *range(37, end, 1999), end]:
        cut(tmp_path, size)
        with pytest.raises(ShardError, match=r"a.tar (is cut off|ends at byte|is no tar)"):
            catalogue(tmp_path)
        whole_images = [row for row in table if row["offset"] + row["size"] <= size]
        if len(whole_images) > 1:  # of the last one the label may be behind the cut
            found = catalogue(tmp_path, skip=True)
            assert found.num_problems
            assert found.catalogue.table.to_pylist()[: len(whole_images) - 1] == whole_images[:-1]
        (tmp_path / "a.tar").write_bytes(whole)


def test_where_a_shard_was_cut_is_said(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", samples(1))
    row = catalogue(tmp_path).catalogue.table.to_pylist()[1]
    for size, message in (
        (row["offset"] + 10, r"after byte \d+, in or behind '.*1\.jpg' \(unexpected end of data\)"),
        (row["offset"] - 512, rf"ends at byte {row['offset'] - 512} without a tar's end mark"),
        (row["offset"] - 500, rf"cut off .* at or after byte {row['offset'] - 512}"),
    ):
        cut(tmp_path, size)
        with pytest.raises(ShardError, match=message):
            catalogue(tmp_path)
        write_tar(tmp_path / "a.tar", samples(1))


@pytest.mark.skipif(not HAS_TAR, reason="needs GNU tar")
def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    import subprocess

    with (tmp_path / "k.jpg").open("wb") as file:
        file.write(IMAGE)
        file.truncate(1 << 20)
    subprocess.run(["tar", "--sparse", "-cf", "a.tar", "k.jpg"], cwd=tmp_path, check=True)
    with pytest.raises(ShardError, match="'k' .* has a .jpg that is a sparse file"):
        catalogue(tmp_path, label=r"key:(\w)")


FILE, FOLDER = tarfile.REGTYPE, tarfile.DIRTYPE


def write_members(path: Path, *members: tuple[str, bytes | str, bytes]) -> None:
    """Members by name, bytes (or where a link leads) and type."""
    with tarfile.open(path, "w") as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(content, str):
                info.linkname, content = content, b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.LNKTYPE, "a link to 'a.jpg', which holds no bytes; .* --hard-dereference"),
        (tarfile.SYMTYPE, "a link to 'a.jpg', which holds no bytes; .* --dereference"),
        (tarfile.FIFOTYPE, "no file but a member of type '6'"),
        (tarfile.CHRTYPE, "no file but a member of type '3'"),
        (b"Z", "no file but a member of type 'Z'"),
    ],
)
@pytest.mark.parametrize("extension", ["jpg", "cls"])
def test_a_member_without_bytes_is_the_fault_of_its_sample_alone(
    tmp_path: Path, kind: bytes, message: str, extension: str
) -> None:
    other = ("b.cls", b"1", FILE) if extension == "jpg" else ("b.jpg", IMAGE, FILE)
    write_members(
        tmp_path / "a.tar",
        ("a.jpg", IMAGE, FILE),
        ("a.cls", b"1", FILE),
        other,
        (f"b.{extension}", "a.jpg", kind),
        ("c.jpg", IMAGE, FILE),
        ("c.cls", b"1", FILE),
        ("c.npy", "a.jpg", kind),  # nobody needs it
    )
    with pytest.raises(ShardError, match=f"sample 'b' .* has a .{extension} that is {message}"):
        catalogue(tmp_path)
    result = catalogue(tmp_path, skip=True)
    assert (len(result.catalogue), result.num_problems) == (2, 1)


def test_members_of_no_sample_are_counted_by_kind(tmp_path: Path) -> None:
    nothing = ("dir.jpg/", b"", FOLDER)
    mine = [("0.JPG", IMAGE, FILE), ("._0.cls", b"x", FILE), ("0.cls", b"1", FILE)]
    others = ["README", ".DS_Store", "Thumbs.db", "d/desktop.ini", "notes.txt", "__MACOSX/0.jpg"]
    others += ["@eaDir/0.jpg/small.jpg", "__meta__/x.json", "LICENSE"]
    links = [("latest", "0.JPG", tarfile.SYMTYPE)]
    write_members(
        tmp_path / "a.tar", nothing, *mine, *((name, b"x", FILE) for name in others), *links
    )
    for _ in range(2):  # the second time from what the first one has kept
        result = catalogue(tmp_path)
        assert (len(result.catalogue), result.num_problems) == (1, 0)
        assert result.tally.kinds == {
            HIDDEN: (2, "a.tar: ._0.cls"),
            SYSTEM: (2, "a.tar: __MACOSX/0.jpg"),
            META: (1, "a.tar: __meta__/x.json"),
            NO_EXTENSION: (3, "a.tar: README"),
            "no part of a sample: .db": (1, "a.tar: Thumbs.db"),
            "no part of a sample: .ini": (1, "a.tar: d/desktop.ini"),
            "no part of a sample: .txt": (1, "a.tar: notes.txt"),
        }
    assert result.num_reused == 1


def test_where_only_strays_are_found_they_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("0.img", IMAGE), ("1.img", IMAGE)])
    with pytest.raises(ValueError, match=r"no part of a sample: .img: 2, the first a.tar: 0.img"):
        catalogue(tmp_path, label=r"key:(\d)")


def test_a_key_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_tar(tmp_path / "a.tar", [*samples(1), (f"{name}.jpg", IMAGE), (f"{name}.cls", b"1")])
    result = catalogue(tmp_path, skip=True)
    assert (len(result.catalogue), result.num_problems) == (3, 1)
    assert "caf" in result.problems[0][0]


def test_a_tar_of_class_folders_is_told_how_to_say_so(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("./cat/1.jpg", IMAGE), ("./dog/2.jpg", IMAGE)])
    label = "key:([^/]+)/[^/]*$"
    with pytest.raises(ShardError, match=re.escape(f"is the class: --label '{label}')")):
        catalogue(tmp_path)
    named = catalogue(tmp_path, label=label).catalogue.column("label_name")
    assert set(named.to_pylist()) == {"cat", "dog"}
