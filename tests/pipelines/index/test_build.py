"""`apdist index` by itself: where it writes, what it says, what it refuses before the work."""

from __future__ import annotations

import re
import shlex

import pytest
import torch

from apdist.data.storage.registry import STORES
from apdist_verbs.index import VERBS, Options, change
from apdist_verbs.terminal.options import check
from tests.memory_store import MemoryStore
from tests.pipelines.index.conftest import Place
from tests.places import ROOT


def test_an_index_holds_the_splits_that_are_named(place: Place) -> None:
    run = ["--run", place.run.uri, "--kind", "exact"]
    out = place(*run, "--split", "test,train", "--out", "both index")
    assert "exact index of 18 images" in out
    assert "search PICTURE.jpg" in out
    assert "--index 'both index'" in out
    place(*run, "--split", "all", "--out", "all")
    place(*run, "--split", "train", "--out", "train")
    both, whole, train = (place.load(name) for name in ("both index", "all", "train"))
    assert both.entries.equals(whole.entries)
    assert sorted(both.entries["split"].unique().to_pylist()) == ["test", "train"]
    torch.testing.assert_close(both.descriptors, whole.descriptors)
    assert train.entries["split"].unique().to_pylist() == ["train"]
    assert len(train) == 12
    shard, offset, size = (whole.entries[name][3].as_py() for name in ("shard", "offset", "size"))
    with open(shard, "rb") as file:
        file.seek(offset)
        assert file.read(size).startswith(b"\x89PNG")


def test_an_index_that_is_there_is_replaced_with_overwrite_only(place: Place) -> None:
    folder = place.built()
    words = ["--run", place.run.uri, "--split", "train", "--out", folder, "--kind", "exact"]
    assert "holds an index already; replace it with --overwrite" in place.refused(*words)
    held = place.load(folder)
    place(*words, "--overwrite")
    assert len(place.load(folder)) == 12
    assert held.descriptors.shape == (6, held.descriptors.shape[1])
    assert held.search(held.descriptors, 1)[1][:, 0].tolist() == list(range(6))


def test_an_index_goes_to_object_storage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STORES, "mem", MemoryStore())
    MemoryStore().files.store.clear()
    place("--run", place.run.uri, "--split", "test", "--out", "mem://bucket/x/index")
    assert place.keys("mem://bucket/x/index") == place.keys(place.root / "built")


def test_commands_of_the_manual_are_understood() -> None:
    text = (ROOT / "docs" / "search.md").read_text()
    commands = [
        shlex.split(line, comments=True) for line in re.findall("^apdist index.*", text, re.M)
    ]
    assert len(commands) > 9
    for _, _, *words in commands:
        kind = getattr(change, VERBS[words.pop(0)][0]) if words and words[0] in VERBS else Options
        check(kind, words, "apdist index")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "tset"], "split 'tset' is not in"),
        (["--split", "test,tset"], "split 'tset' is not in"),
        (["--images", "x", "--table", "y"], "--images and --table are two places"),
        (["--images", "x", "--split", "test"], "--split is of shards and tables"),
        (["--on-corrupt", "error"], "--on-corrupt is for --images"),
        (["--images", "nowhere"], "nowhere does not exist; check it; expected a folder"),
        (["--table", "nowhere"], "nowhere holds no .parquet file"),
        (["--kind", "ivf_pq"], "at least 624 images, got 6"),
        (["ad"], "got 'ad'; did you mean 'add'?"),
        (["--over-write"], "unknown option '--over-write'; did you mean '--overwrite'?"),
    ],
)
def test_bad_input_is_one_line(place: Place, words: list[str], message: str) -> None:
    if words != ["ad"]:
        words = [*words, "--run", place.run.uri, "--out", "out"]
    if "ivf_pq" in words:
        words += ["--split", "test"]
    assert message in place.refused(*words)
    assert not list(place.tmp_path.iterdir())
