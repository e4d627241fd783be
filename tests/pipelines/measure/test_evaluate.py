"""`apdist evaluate` and others of a run to which only another person may write."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from apdist.data.storage import local
from apdist_verbs import described
from apdist_verbs.__main__ import main
from apdist_verbs.start import checks
from tests.pictures import write_small_set
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
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a model, in a folder that nobody may write to."""
    write_small_set(tmp_path / "pictures")
    uri = untrained_run(tmp_path / "runs", tmp_path / "pictures").uri
    monkeypatch.setattr(local, "temporary_in", refusing(Path(uri), local.temporary_in))
    monkeypatch.setattr(checks, "TemporaryDirectory", refusing(Path(uri), TemporaryDirectory))
    monkeypatch.chdir(tmp_path)
    described.warn_of_unkept.cache_clear()
    return Path(uri)


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
