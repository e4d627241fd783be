"""Which run a verb takes, and whether it has a model."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.data import storage
from apdist.training.run_folder.runs import create_run
from apdist_verbs.described import find_run, newest_run, trained_model


def closed(uri: str, exists: Callable[[str], bool]) -> Callable[[str], bool]:
    """The `exists` of a person who may not look into the folder ``uri``."""

    def looked(wanted: str) -> bool:
        if wanted.startswith(uri + "/"):
            raise PermissionError(13, "Permission denied", wanted)
        return exists(wanted)

    return looked


def make_run(root: Path, name: str, *, has_model: bool, age_s: float = 0) -> str:
    config = override(Config(), {"run.output": str(root), "run.name": name})
    run = create_run(config, "glyphs")
    began = 1_000_000_000 - age_s
    os.utime(Path(run.uri, "config.json"), (began, began))
    if has_model:
        Path(run.uri, "model.json").write_text("{}")
    return str(run.uri)


def test_the_newest_run_is_the_one_begun_last_that_has_a_model(tmp_path: Path) -> None:
    make_run(tmp_path, "old", has_model=True, age_s=20)
    wanted = make_run(tmp_path, "begun later", has_model=True, age_s=10)
    make_run(tmp_path, "without a model", has_model=False)
    make_run(tmp_path, "hidden", has_model=True)
    (tmp_path / "hidden").rename(tmp_path / ".hidden")
    assert newest_run(str(tmp_path)) == wanted


def test_a_run_that_others_may_not_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = make_run(tmp_path, "mine", has_model=True, age_s=10)
    theirs = make_run(tmp_path, "theirs", has_model=True)
    monkeypatch.setattr(storage, "exists", closed(theirs, storage.exists))
    assert newest_run(str(tmp_path)) == wanted
    assert f"passed over: {theirs}/model.json: permission denied" in capsys.readouterr().err


def test_where_no_run_has_come_to_its_end_it_is_said(tmp_path: Path) -> None:
    make_run(tmp_path, "without a model", has_model=False)
    with pytest.raises(ValueError, match="no run under .* has come to its end; train one first"):
        newest_run(str(tmp_path))


def test_a_run_that_has_not_come_to_its_end_says_how_to_go_on(tmp_path: Path) -> None:
    uri = make_run(tmp_path, "my run", has_model=False)
    with pytest.raises(ValueError, match="has done 0 of 240 steps .* apdist train --resume '"):
        trained_model(find_run(uri))
