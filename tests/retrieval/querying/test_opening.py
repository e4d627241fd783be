"""An index is opened with the model that described it, or refused in a line."""

import shutil
from pathlib import Path

import pytest
import torch

from apdist.model.kept_whitenings import keep_whitening
from apdist.model.pretrained import load_model
from apdist.model.whitening import learn_pca_whitening
from apdist.retrieval.index import build_index, load_index, save_index
from apdist.retrieval.querying.opening import open_index
from apdist.retrieval.recipe import prepared, recipe_of
from tests.retrieval.querying.conftest import Indexed
from tests.s3_server import S3Server


def test_run_and_index_open_the_same(indexed: Indexed) -> None:
    places: list[tuple[str | Path, str]] = [
        (indexed.run, ""),
        (Path(indexed.run), ""),
        (f"{indexed.run}/index", ""),
        (f"{indexed.run}/index/", indexed.run),
    ]
    for place, run in places:
        assert len(open_index(place, run=run, device="cpu")) == 30
    assert len(open_index([indexed.run], device="auto")) == 30


def test_an_index_elsewhere_notes_its_run(indexed: Indexed, tmp_path: Path) -> None:
    index = load_index(f"{indexed.run}/index", model_id=None)
    index.settings["run"] = indexed.run
    save_index(index, tmp_path / "a")
    assert len(open_index(tmp_path / "a", device="cpu")) == 30
    index.settings["run"] = "/gone"
    save_index(index, tmp_path / "b")
    with pytest.raises(ValueError, match="the run that it notes, /gone, is gone; name the one"):
        open_index(tmp_path / "b")


@pytest.mark.s3
def test_an_index_on_s3_is_opened(indexed: Indexed, s3: S3Server) -> None:
    index = load_index(f"{indexed.run}/index", model_id=None)
    index.settings["run"] = indexed.run
    uri = f"s3://{s3.bucket}/opened/index"
    save_index(index, uri)
    opened = open_index(uri, device="cpu")
    assert opened.search(indexed.encoded(2), k=1).to_pylist()[0]["rank"] == 1
    with pytest.raises(ValueError, match="opened is no index and no run"):
        open_index(f"s3://{s3.bucket}/opened")


def test_several_indexes_are_searched_together(indexed: Indexed, tmp_path: Path) -> None:
    other = shutil.copytree(f"{indexed.run}/index", tmp_path / "other")
    both = open_index([indexed.run, other], device="cpu")
    assert len(both) == 60
    rows = torch.tensor([0, 29, 30, 59, 1])
    stored = load_index(other, model_id=None).descriptors
    assert torch.equal(both._stored(rows), torch.cat((stored, stored))[rows])
    data = indexed.encoded(8)
    found = both.search(data, k=2).to_pylist()
    assert [row["index"] for row in found] == [indexed.run, str(other)]
    assert found[0]["key"] == found[1]["key"] == indexed.catalogue.column("key")[8].as_py()
    [row] = both.search_keys(found[0]["key"], k=1).to_pylist()
    assert (row["index"], row["key"]) == (str(other), found[0]["key"])
    assert row["score"] == pytest.approx(1, abs=1e-6)


def test_queries_are_described_as_the_index_says(indexed: Indexed, tmp_path: Path) -> None:
    run = str(shutil.copytree(indexed.run, tmp_path / "run"))
    model = load_model(run)
    images = [indexed.encoded(row) for row in range(30)]
    keep_whitening(learn_pca_whitening(model.describe(images), num_components=5), run, "own")
    describing = {"size": 20, "scales": [1, 0.5], "scale_power": 2.0, "whiten": "own", "dim": 4}
    other = prepared(model, recipe_of(describing, run, len(model.describe(images)[0])))
    plain = load_index(f"{run}/index", model_id=None)
    index = build_index(
        other.describe(images), plain.entries, kind="exact", model_id=other.model_id
    )
    index.settings["describing"] = describing
    save_index(index, tmp_path / "index", overwrite=True)
    opened = open_index(tmp_path / "index", run=run, device="cpu")
    assert torch.equal(opened.describe(images), other.describe(images))
    index.settings["describing"] = {"size": 20}
    save_index(index, tmp_path / "index", overwrite=True)
    with pytest.raises(ValueError, match="how descriptors were made is damaged"):
        open_index(tmp_path / "index", run=run)


def test_what_does_not_fit_is_refused_in_a_line(indexed: Indexed, tmp_path: Path) -> None:
    apart = shutil.copytree(f"{indexed.run}/index", tmp_path / "apart")
    with pytest.raises(ValueError, match="apart lies in no run, and notes none; name the one"):
        open_index(apart)
    both = open_index([apart, f"{indexed.run}/index"], device="cpu")  # the second tells of one
    assert both.model.model_id == load_index(apart, model_id=None).settings["model_id"]
    with pytest.raises(ValueError, match="is no index and no run that has come to its end"):
        open_index(tmp_path)
    with pytest.raises(ValueError, match="got none"):
        open_index([])
    with pytest.raises(ValueError, match=r"device 'gpu' cannot be used \(.*\); give auto or cpu"):
        open_index(apart, run=indexed.run, device="gpu")
    bare = shutil.copytree(indexed.run, tmp_path / "bare")
    (bare / "index" / "index.json").unlink()
    with pytest.raises(ValueError, match="no index at .*bare/index; build one with: apdist index"):
        open_index(bare)
    other = build_index(torch.eye(30), load_index(apart, model_id=None).entries, model_id="x")
    save_index(other, tmp_path / "of another")
    with pytest.raises(
        ValueError, match="of another was built with model x, the queries come from"
    ):
        open_index(tmp_path / "of another", run=indexed.run)
