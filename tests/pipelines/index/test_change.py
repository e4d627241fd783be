"""Images added to an index, updated and removed from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from apdist.retrieval.index import save_index
from tests.pictures import encoded, picture
from tests.pipelines.index.conftest import Place
from tests.retrieval.indexes import small_index


def test_what_has_come_into_a_folder_is_added(place: Place) -> None:
    folder = place.built()
    words = ["add", "--run", place.run.uri, "--index", folder, "--images", "p"]
    shutil.copytree(place.root / "pictures", "p")
    assert "4 added; now an exact index of 10 images" in place(*words)
    assert place.load(folder).entries["label"].to_pylist()[6:] == [None] * 4
    Path("p/new.png").write_bytes(encoded(picture(5, 1)))
    message = place.refused(*words)
    assert "4 keys are in" in message
    assert "`apdist index update`, or pass them over with --only-new" in message
    assert "1 added; now an exact index of 11 images" in place(*words, "--only-new")
    assert "nothing is new, all 5 images are there" in place(*words, "--only-new")
    assert place.keys(folder)[10] == "new.png"
    Path("p/bad.png").write_bytes(encoded(picture(5, 1))[:99])
    said = place(*words, "--only-new")
    assert "nothing is new that can be read, 5 images are there" in said
    assert "bad.png" in said


def test_images_of_shards_and_tables_are_added(place: Place) -> None:
    folder, run = place.built(), ["--run", place.run.uri, "--index"]
    add = ["add", *run, folder]
    assert "6 keys are in" in place.refused(*add, "--split", "all")
    assert "12 added" in place(*add, "--split", "all", "--only-new")
    other = place.tmp_path / "other"
    shutil.copytree(place.root / "built", other)
    table = ["--table", str(place.root / "tables"), "--split", "train"]
    assert "12 added" in place("add", "--index", str(other), *table)
    assert sorted(place.keys(folder)) == sorted(place.keys(other))


def test_images_that_come_again_are_described_anew(place: Place) -> None:
    shutil.copytree(place.root / "pictures", "p")
    run = ["--run", place.run.uri, "--images", "p"]
    place(*run, "--out", "i", "--kind", "exact")
    before = place.load("i")
    Path("p/top.png").write_bytes(encoded(picture(9, 9)))
    Path("p/more.png").write_bytes(encoded(picture(8, 9)))
    out = place("update", *run, "--index", "i")
    assert "1 added, 4 replaced; now an exact index of 5 images" in out
    after = place.load("i")
    assert sorted(place.keys("i")) == sorted([*before.entries["key"].to_pylist(), "more.png"])
    for row, key in enumerate(before.entries["key"].to_pylist()):
        now = after.descriptors[place.keys("i").index(key)]
        is_same = torch.allclose(now, before.descriptors[row], atol=1e-5)
        assert is_same == (key != "top.png")


def test_images_are_removed_by_key_list_and_condition(place: Place) -> None:
    folder = place.built()
    keys = place.keys(folder)
    remove = ["remove", "--index", folder]
    out = place(*remove, keys[0], "no such")
    assert "1 key is not there, the first 'no such'" in out
    assert "1 removed; now an exact index of 5 images" in out
    Path("keys.txt").write_text(f"\ufeff{keys[3]}\n\n{keys[0]}\n", encoding="utf-8")
    assert "1 removed" in place(*remove, "--keys", "keys.txt")
    assert "removed" in place(*remove, "--where", "label=0", "split in test,train")
    assert place.keys(folder) == [keys[4], keys[5]]
    for words, message in (
        ([], "nothing to remove: give KEY ..., --keys FILE, or --where"),
        ([keys[4][:-1]], f"has the key {keys[4][:-1]!r}; did you mean"),
        (["--where", "label=0"], "is one that label=0 holds of; nothing was removed"),
        (["--where", "lable=0"], "no column 'lable'; did you mean 'label'?"),
        (["--where", "label"], "'label' is no condition; expected COLUMN=VALUE"),
        (["--keys", "no.txt"], "--keys no.txt does not exist"),
        (["--where", "label>=0"], "would remove all 2 images"),
    ):
        assert message in place.refused(*remove, *words)
    assert place.keys(folder) == [keys[4], keys[5]]


def test_an_index_of_another_model_or_none_is_refused(place: Place) -> None:
    save_index(small_index(), "foreign")
    add = ["add", "--run", place.run.uri, "--images", str(place.root / "pictures"), "--index"]
    assert "is of model model A, the pictures in" in place.refused(*add, "foreign")
    assert "index.json does not exist" in place.refused(*add, "nowhere")
    Path("nowhere").mkdir()
    assert "index.json does not exist" in place.refused("remove", "x", "--index", "nowhere")
    assert "index.json does not exist" in place.refused("check", "--index", "nowhere")


def test_a_change_describes_as_the_index_was_made(place: Place) -> None:
    pictures = ["--run", place.run.uri, "--images", str(place.root / "pictures")]
    place(*pictures, "--out", "i", "--size", "20", "--scales", "1", "0.5", "--kind", "exact")
    before = place.load("i")
    assert "--size 20 --scales 1 0.5" in place("check", "--index", "i")
    place("update", *pictures, "--index", "i")
    after = place.load("i")
    order = [place.keys("i").index(key) for key in before.entries["key"].to_pylist()]
    torch.testing.assert_close(after.descriptors[order], before.descriptors, atol=1e-5, rtol=0)
    assert after.settings == before.settings


def test_a_check_tells_what_an_index_holds_and_what_is_damaged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.built()
    monkeypatch.setenv("COLUMNS", "500")
    out = place("check", "--index", folder)
    assert "as the run measures" in out
    assert "label (int64), label_name (text), split (text)" in out
    settings = json.loads(Path(folder, "index.json").read_text())
    assert settings["model_id"] in out
    file = Path(folder, settings["generation"], "descriptors.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "descriptors.safetensors is damaged" in place.refused("check", "--index", folder)
