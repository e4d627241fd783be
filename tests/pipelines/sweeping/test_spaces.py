"""The spaces that come with apdist."""

from pathlib import Path

import pytest

from apdist.training.sweeps.space import read_space
from apdist_verbs.presets import preset
from apdist_verbs.sweep import usage
from apdist_verbs.sweeping.spaces import FOLDER, SPACES, space_file


def test_each_is_read_by_its_name_and_told_in_the_help() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(SPACES)
    for name in SPACES:
        assert len(read_space(space_file(Path(name)), preset("glyphs"))) > 1
        assert f"  {name} " in usage()


def test_a_file_of_ones_own_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").touch()
    for given in ("paper", "paper.toml", "spaces/paper", "/nowhere/baselines"):
        assert space_file(Path(given)) == Path(given)


def test_a_name_that_is_none_gets_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no such file, .*; did you mean 'paper'\?"):
        space_file(Path("papr"))
    with pytest.raises(ValueError, match="with distributions, or one of paper, baselines, augm"):
        space_file(Path("x"))
