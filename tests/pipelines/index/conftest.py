"""A run with random weights, shards, pictures and tables of descriptors, made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.sequential import shard_names
from apdist.retrieval.index import load_index
from apdist.retrieval.search_index import SearchIndex
from apdist.training.run_folder.runs import Run
from apdist_verbs.__main__ import main
from apdist_verbs.describe_options import CONTENTS, PLAIN, options_to_json
from apdist_verbs.extract import Describer, Options
from tests.pictures import encoded, picture, write_small_set
from tests.pipelines.measure.scenes import untrained_run


@dataclass(frozen=True)
class Place:
    """What the tests of `apdist index` work with; `built` is an index of the split `test`."""

    run: Run
    root: Path
    capsys: pytest.CaptureFixture[str]
    tmp_path: Path

    def __call__(self, *words: str) -> str:
        """What the command says, which must succeed."""
        self.capsys.readouterr()
        code = main(["index", *words])
        out, err = self.capsys.readouterr()
        assert code == 0, err
        return out + err

    def refused(self, *words: str) -> str:
        """The line of a command that must be refused."""
        self.capsys.readouterr()
        assert main(["index", *words]) == 2
        lines = self.capsys.readouterr().err.splitlines()
        assert len([line for line in lines if not line.startswith("warning")]) == 1, lines
        return lines[-1]

    def built(self) -> str:
        """A copy of the index."""
        target = self.tmp_path / "built"
        shutil.copytree(self.root / "built", target)
        return str(target)

    def load(self, folder: str | Path) -> SearchIndex:
        return load_index(folder, model_id=None)

    def keys(self, folder: str | Path) -> list[str]:
        found: list[str] = self.load(folder).entries["key"].to_pylist()
        return found


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("index")
    write_small_set(root / "shards", num_classes=6, images_per_class=3, num_test=2)
    run = untrained_run(root / "runs", root / "shards")
    for number, name in enumerate(["ä b/<i> '1'.png", "ä b/2.jpg", "top.png", "x/y/deep.png"]):
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        path.write_bytes(encoded(picture(number, 1), kind))
    (root / "pictures" / "notes.txt").write_text("no picture")
    (root / "pictures" / ".hidden.png").write_bytes(b"")
    catalogue = read_catalogue(str(root / "shards"))
    out = str(root / "tables")
    describer = Describer(run.uri, str(root / "shards"), out, Options(out=out), False)
    told = describer({"shard": np.array(shard_names(catalogue))})
    assert not any(told["refused"].tolist())
    contents = {"data": catalogue.fingerprint(), "describing": options_to_json(PLAIN)}
    (root / "tables" / CONTENTS).write_text(json.dumps(contents))
    words = ["index", "--run", run.uri, "--split", "test", "--out", str(root / "built")]
    assert main([*words, "--kind", "exact"]) == 0
    return run, root


@pytest.fixture
def place(
    made: tuple[Run, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(*made, capsys, tmp_path)
