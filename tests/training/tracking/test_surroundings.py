"""Where a run comes from."""

import getpass
import subprocess
import sys
from pathlib import Path

import pytest

from apdist.training.tracking.surroundings import surroundings


def git(folder: Path, *words: str) -> str:
    person = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", *person, *words]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_that_of_the_folder_where_the_command_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert not [name for name in surroundings() if "git" in name]
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert "mlflow.source.git.commit" not in surroundings()  # there is none yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "remote", "add", "origin", "https://u:geheim@h/x.git")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    found = surroundings()
    assert found["mlflow.source.git.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert found["mlflow.source.git.branch"] == "trunk"
    assert found["mlflow.source.git.repoURL"] == "https://h/x.git"
    assert found["apdist.git.dirty"] == "false"
    (tmp_path / "a").write_text("2")
    assert surroundings()["apdist.git.dirty"] == "true"


def test_a_machine_without_git_and_a_person_without_a_name_are_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(getpass, "getuser", nameless)
    found = surroundings()
    assert "mlflow.source.git.commit" not in found
    assert found["mlflow.user"].isdigit()


def test_the_command_is_told_without_secrets_and_on_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--data.shards", "https://u:geheim@h/x?sig=geheim", "a\nb"]
    monkeypatch.setattr(sys, "argv", ["/bin/apdist", "train", *words])
    found = surroundings()
    assert found["mlflow.source.name"] == "apdist train"
    assert found["apdist.command"].startswith("apdist train --data.shards 'https://...@h/x?...")
    assert "geheim" not in str(found)
    assert "\n" not in found["apdist.command"]
    assert found["apdist.version.torch"]
