"""`apdist doctor`: good and bad surroundings, each with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apdist_verbs.__main__ import main


def test_a_machine_that_is_ready_is_told_so(
    tmp_path: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--shards", str(shards), "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["versions"]["found"].startswith("Python 3")
    assert found["shards"]["found"].endswith("72 images (24 test, 48 train)")
    assert found["runs"]["found"] == "runs: written, read, removed"
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "0 wrong" in said
    assert "apdist doctor --shards SHARDS" in said


def test_what_is_wrong_is_said_with_a_remedy_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    (tmp_path / "runs").write_text("a file")
    arguments = ["--shards", "nowhere", "--tracking.uri", "sqlite:///missing/m.db", "--json"]
    assert main(["doctor", *arguments, "--ray.address", "127.0.0.1:1"]) == 1
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    wrong = {name for name, row in found.items() if row["state"] == "wrong"}
    assert wrong == {"temporary files", "Ray", "runs", "shards", "MLflow"}
    assert all(found[name]["remedy"] for name in wrong)
    assert "export RAY_TMPDIR=/tmp" in found["temporary files"]["remedy"]
    assert main(["doctor", "--ray.address", "nonsense"]) == 2
