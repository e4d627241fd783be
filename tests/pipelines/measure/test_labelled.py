"""A run on a split of its own, also where only another person may write to it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from apdist.data.preparing.shards import Item, write_shards
from apdist.data.storage import local
from apdist.retrieval.scores_file import read_scores
from apdist.training.run_folder.runs import evaluation_name
from apdist_verbs import described
from apdist_verbs.__main__ import main
from apdist_verbs.start import checks
from tests.pictures import encode_picture, refuse, write_small_set
from tests.pipelines.measure.scenes import untrained_run


def refusing(folder: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    """The `function` that makes something in a folder, as if ``folder`` were another's."""

    @contextmanager
    def made(*arguments: Any, **named: Any) -> Iterator[Any]:
        where = Path(named.get("dir") or arguments[0])
        if folder in (where, *where.parents):
            raise PermissionError(13, "Permission denied", str(where))
        with function(*arguments, **named) as found:
            yield found

    return made


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a model."""
    write_small_set(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return Path(untrained_run(tmp_path / "runs", tmp_path / "pictures").uri)


@pytest.fixture
def run(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a model, in a folder that nobody may write to."""
    monkeypatch.setattr(local, "temporary_in", refusing(own, local.temporary_in))
    monkeypatch.setattr(checks, "TemporaryDirectory", refusing(own, TemporaryDirectory))
    described.warn_of_unkept.cache_clear()
    return own


def figures(file: Path) -> dict[str, dict[str, Any]]:
    """By their keys."""
    return {figure["key"]: figure for figure in json.loads(file.read_text())["figures"]}


def test_the_scores_of_the_own_split_are_kept_and_shown_beside_those_before_training(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--run", str(own), "--recall-at", "1", "3"]) == 0
    said = capsys.readouterr().out
    assert "find pictures: apdist index --run" in said
    assert "before training" not in said
    found, kept = figures(own / "figures_labelled.json"), own / "evaluation.json"
    assert [key for key in found if key.startswith("recall")] == ["recall_at_1", "recall_at_3"]
    assert read_scores(str(kept)).num_queries == 24
    before = own / evaluation_name("test", 0)
    before.parent.mkdir(exist_ok=True)
    before.write_bytes(kept.read_bytes())
    assert main(["evaluate", "--run", str(own), "--json", "own.json"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "│ mAP  " in line)
    assert line.count(f"{found['map']['value']:.4f}") == 2


def test_another_split_leaves_the_scores_of_the_own_one(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = own / "evaluation.json"
    before = own / evaluation_name("test", 0)
    (own / "index").mkdir()
    for file in (kept, before, own / "index" / "entries"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("as it was")
    assert main(["evaluate", "--run", str(own), "--split", "train", "--json", "a.json"]) == 0
    said = capsys.readouterr().out
    assert "find pictures: apdist search PICTURE.jpg" in said
    assert "before training" not in said
    assert kept.read_text() == "as it was"
    assert json.loads(Path("a.json").read_text())["num_queries"] == 48


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--recall-at", "0"], "--recall-at must be whole numbers of at least 1"),
        (["--recall-at", "5", "5"], "--recall-at names a number twice: 5 5"),
        (["--json", "."], "--json . is a folder; give a file, as ./figures.json"),
        (["--split", "lone"], "none with two images, so no query would have a positive"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_described(
    own: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    told: str,
) -> None:
    items = [Item(f"{n}.png", n, "", "lone", content=(n, n)) for n in range(3)]
    write_shards(items, encode_picture, "lone", shard_bytes=10_000, on_refused=refuse)
    shards = ["--shards", "lone"] if "lone" in typed else []
    monkeypatch.setattr(described, "describe_split", None)
    assert main(["evaluate", "--run", str(own), *shards, *typed]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_run_of_another_person_is_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(run.rglob("*"))
    assert main(["evaluate", "--run", str(run)]) == 0
    said = capsys.readouterr()
    assert "mAP" in said.out
    assert said.err.count("which keeps no figures of this; `apdist evaluate --json FILE`") == 1
    assert main(["evaluate", "--run", str(run), "--json", "figures.json"]) == 0
    assert json.loads(Path("figures.json").read_text())["protocol"] == "labelled"
    assert sorted(run.rglob("*")) == before


def test_its_page_and_its_whitenings_need_another_place_which_is_said_before_any_work(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["report", str(run), "--out", "page.html", "--map-images", "0"]) == 0
    assert Path("page.html").exists()
    capsys.readouterr()

    def describes(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(described, "describe_split", describes)
    for arguments, remedy in (
        (["report", str(run)], "(permission denied); name a file elsewhere: --out FILE"),
        (["whiten", "--run", str(run)], "(permission denied); learn it of a copy of the run"),
    ):
        assert main(arguments) == 2
        assert remedy in capsys.readouterr().err
