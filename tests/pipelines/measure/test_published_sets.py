"""Published data sets, drawn tiny, prepared and measured: each by its own protocol, unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apdist.data.preparing.published.sets import SETS
from apdist.training.run_folder.runs import Run
from apdist_verbs.__main__ import main
from tests.pipelines.measure.scenes import untrained_run
from tests.published import drawn


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return untrained_run(folder, folder)


EXPECTED = {
    **{name: which.protocol for name, which in SETS.items() if which.num_queries},
    "inshop": "query-gallery",
    "sop": "labelled",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_set_is_measured_by_its_protocol(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETS, name, drawn(name, tmp_path / "root"))
    shards, target = str(tmp_path / "shards"), tmp_path / "found.json"
    assert main(["prepare", name, str(tmp_path / "root"), "--out", shards]) == 0
    command = ["evaluate", "--run", run.uri, "--shards", shards, "--json", str(target)]
    assert main(command) == 0
    content = json.loads(target.read_text())
    assert content["protocol"] == EXPECTED[name]
    assert content["figures"]
    assert all(0 <= line["value"] <= 1 for line in content["figures"])
    assert content.get("num_cropped_queries", 0) == SETS[name].has_boxes * SETS[name].num_queries
