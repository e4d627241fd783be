"""``apdist report`` of several runs, on other shards, in another place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from apdist.config import (
    Config,
    DataConfig,
    ModelConfig,
    RayConfig,
    RunConfig,
    TrackingConfig,
    TrainingConfig,
)
from apdist.training.run_folder.runs import create_run
from apdist_verbs.__main__ import main
from apdist_verbs.start.running import train_run
from tests.pictures import SIDE, write_small_set


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two trained runs, `a` and `b`, of different seeds."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 0), ("b", 1)):
        config = Config(
            data=DataConfig(shards=str(shards), image_size=SIDE, group_size=4, loader_processes=0),
            model=ModelConfig(dim=8),
            training=TrainingConfig(batch_size=16, chunk_size=8, steps=1, seed=seed),
            ray=RayConfig(num_workers=0),
            tracking=TrackingConfig(enabled=False),
            run=RunConfig(output=str(folder), name=name),
        )
        assert train_run(create_run(config, "test")) == 0
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_two_runs_on_the_same_images_are_compared_query_by_query(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(runs / "a"), str(runs / "b"), "--queries", "2"]) == 0
    page = (tmp_path / "comparison.html").read_text()
    assert "<code>training.seed</code>" in page
    assert "Queries that changed most" in page
    assert "A is best at" in page
    assert 2 <= page.count('class="query card several"') <= 4
    assert list(tmp_path.iterdir()) == [tmp_path / "comparison.html"]


def test_runs_on_other_images_have_figures_only(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "c"
    shutil.copytree(runs / "a", other)
    write_small_set(tmp_path / "shards", images_per_class=5)
    options = json.loads((other / "config.json").read_text())
    options["data"]["shards"] = str(tmp_path / "shards")
    (other / "config.json").write_text(json.dumps(options))
    out = tmp_path / "new folder" / "page.html"
    assert main(["report", str(runs / "a"), str(other), "--out", str(out)]) == 0
    page = out.read_text()
    assert "Other images than those of A" in page
    assert "Queries that changed most" not in page


def test_a_run_is_shown_on_other_shards_and_keeps_its_own_figures(
    runs: Path, tmp_path: Path
) -> None:
    write_small_set(tmp_path / "my shards", num_classes=5, num_test=0)
    before = (runs / "a" / "metrics.jsonl").read_bytes()
    own = runs / "a" / "evaluation.json"
    own.unlink(missing_ok=True)
    (runs / "a" / "report.html").write_text("its own")
    where = ["--shards", str(tmp_path / "my shards"), "--split", "train"]
    assert main(["report", "--run", str(runs / "a"), *where]) == 0
    page = (runs / "a" / "report-other-images.html").read_text()
    assert (runs / "a" / "report.html").read_text() == "its own"
    assert str(tmp_path / "my shards") in page
    assert "30 images of the split &#39;train&#39;" in page
    assert not own.exists()
    assert (runs / "a" / "metrics.jsonl").read_bytes() == before


def test_a_page_in_less_than_it_needs_says_so(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    few = ["--queries", "1", "--results", "2", "--map-images", "0", "--out", str(out)]
    assert main(["report", str(runs / "a"), *few]) == 0
    assert "--max-mb" not in capsys.readouterr().out
    assert main(["report", str(runs / "a"), *few, "--max-mb", "0.01"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"to stay in 0.01 MB \(--max-mb\), texts alone take 0.0\d MB", said)
    assert "and only the first 0 of" in said
    assert "data:image" not in out.read_text()


def test_bad_input_is_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = str(runs / "a"), str(runs / "b")
    for arguments, message in (
        ([a, f"{a}/"], f"{a} is named twice; name runs that differ"),
        ([a, "--run", b], "not both"),
        ([a, str(tmp_path / "nowhere")], "is no run"),
        ([str(n) for n in range(7)], "7 runs; a page compares at most 6"),
        ([a, b, "--gallery", "x.png"], "--gallery is a picture of one run"),
        ([a, "--out", str(tmp_path)], f"--out {tmp_path} is a folder; give a file"),
        ([a, "--out", "/dev/null/x.html"], "--out /dev/null: /dev/null is no folder"),
        ([a, "--map-images", "2001"], "--map-images must be 0 to 2000, got 2001"),
        ([a, "--max-mb", "nan"], "--max-mb must be more than 0 and below 1000, got nan"),
        ([a, "--split", "tset"], "split 'tset' is not in"),
        ([a, "--shards", str(tmp_path)], "index.parquet does not exist"),
    ):
        assert message in refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == []
