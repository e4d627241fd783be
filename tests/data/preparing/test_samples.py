"""What a sample of a shard says of its label, split and image."""

from pathlib import Path

import pytest

from apdist.data.loading.reader import ImageReader
from apdist.data.preparing.kinds import COMPOSED
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import ShardError
from tests.data.preparing.catalogued import IMAGE, catalogue
from tests.foreign import (
    Files,
    sample,
    write_tar,
)
from tests.pictures import encoded, picture


@pytest.mark.parametrize(
    ("rules", "labels", "names"),
    [
        ({}, [0, 1], ["0", "1"]),
        ({"names": "txt"}, [0, 1], ["name 0", "name 1"]),
        ({"label": "json:label"}, [0, 1], ["class 0", "class 1"]),
        ({"label": "json:id", "names": "json:label"}, [7, 8], ["class 0", "class 1"]),
        ({"label": r"key:^(\w+)/"}, [0, 1], ["c0", "c1"]),
    ],
)
def test_labels_and_names_follow_the_rules(
    tmp_path: Path, rules: dict[str, str], labels: list[int], names: list[str]
) -> None:
    write_tar(tmp_path / "a.tar", sample("c0/x", 0, 0, id=7) + sample("c1/x", 1, 0, id=8))
    found = catalogue(tmp_path, **rules).catalogue
    assert found.labels.tolist() == labels
    assert found.table["label_name"].to_pylist() == names


@pytest.mark.parametrize("rule", [r"shard:^(\w+)/", "json:split"])
def test_splits_follow_the_rules(tmp_path: Path, rule: str) -> None:
    write_tar(tmp_path / "train" / "0.tar", sample("a", 0, 0, split="train"))
    write_tar(tmp_path / "val" / "0.tar", sample("a", 1, 0, split="val"))
    result = catalogue(tmp_path, split=rule)
    assert result.catalogue.splits() == {"train": 1, "val": 1}
    assert result.num_repeated_keys == 1
    assert result.catalogue.table["source"].to_pylist() == ["train/0.tar/a", "val/0.tar/a"]


def test_of_several_images_the_first_known_one_or_the_one_asked_for_is_taken(
    tmp_path: Path,
) -> None:
    other = encoded(picture(1, 1))
    write_tar(tmp_path / "a.tar", [("k.seg.png", other), ("k.jpg", IMAGE), ("k.cls", b"1")])
    assert catalogue(tmp_path).catalogue.table["size"].to_pylist() == [len(IMAGE)]
    found = catalogue(tmp_path, image_extension="seg.png").catalogue
    assert ImageReader(found).read_one(0) == other


@pytest.mark.parametrize("extension", ["img", ".img", ".IMG"])
def test_an_extension_may_have_its_dot(tmp_path: Path, extension: str) -> None:
    write_tar(tmp_path / "a.tar", [("0.img", IMAGE), ("0.cls", b"1")])
    assert len(catalogue(tmp_path, image_extension=extension).catalogue) == 1


@pytest.mark.parametrize(
    "files",
    [
        [(f"22.{n}.{e}", d) for n in "12" for e, d in (("jpg", IMAGE), ("cls", b"1"))],
        [("22.1.jpg", IMAGE), ("22.1.cls", b"1")],
    ],
)
def test_names_with_dots_are_refused_with_the_rule(tmp_path: Path, files: Files) -> None:
    write_tar(tmp_path / "a.tar", files)
    with pytest.raises(ShardError, match="a key ends at the first dot of a file's name"):
        catalogue(tmp_path)


def test_labels_are_one_with_any_mark_and_in_any_normal_form(tmp_path: Path) -> None:
    texts = [b"\xef\xbb\xbfe\xcc\x81\r\n", "\u00e9".encode(), "\u00e9".encode("utf-16")]
    files = [(f"{n}.{e}", d) for n, t in enumerate(texts) for e, d in (("jpg", IMAGE), ("cls", t))]
    write_tar(tmp_path / "a.tar", files)
    result = catalogue(tmp_path)
    assert result.catalogue.table["label_name"].to_pylist() == ["\u00e9"] * 3
    assert result.tally.kinds == {COMPOSED: (1, "a.tar: 0")}
    marked = b'\xef\xbb\xbf{"c": "x"}'
    write_tar(tmp_path / "a.tar", [("0.jpg", IMAGE), ("0.json", marked)])
    assert catalogue(tmp_path, label="json:c").catalogue.table["label_name"].to_pylist() == ["x"]


@pytest.mark.parametrize("text", [b'{"c": ' + b"[" * 100_000, b'{"c": " "}'])
def test_json_that_holds_no_label_is_refused(tmp_path: Path, text: bytes) -> None:
    write_tar(tmp_path / "a.tar", [("0.jpg", IMAGE), ("0.json", text)])
    with pytest.raises(ShardError, match=r"has a .json that cannot be read|has ' ' in the field"):
        catalogue(tmp_path, label="json:c")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"label": "txt"}, "--label must be cls or json:FIELD or key:PATTERN, got 'txt'"),
        ({"label": "json:"}, "--label must be"),
        ({"label": "key:("}, "no regular expression"),
        ({"label": "key:a"}, "needs exactly one group"),
        ({"names": "cls"}, "--names must be txt or json:FIELD"),
        ({"split": "my split"}, "--split must be a plain word"),
        ({"split": "key:(a)"}, "--split must be a plain word"),
        ({"split": "shard:(a)(b)"}, "exactly one group .* has 2"),
    ],
)
def test_bad_rules_are_refused(rules: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**rules)
