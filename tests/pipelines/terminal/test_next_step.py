"""The command that is next, as a person would type it."""

from pathlib import Path

import pytest

from apdist_verbs.terminal.next_step import near, say_next


def test_paths_are_shown_from_the_current_folder_and_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    say_next("measure it", "evaluate", "--run", near(f"{tmp_path}/runs/my [run]"))
    assert capsys.readouterr().out == ("next, measure it: apdist evaluate --run 'runs/my [run]'\n")
    assert near("/elsewhere/run") == "/elsewhere/run"
    assert near("s3://bucket/run") == "s3://bucket/run"
