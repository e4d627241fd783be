"""`apdist submit`: what is refused here, and what is handed over."""

from types import SimpleNamespace

import pytest

from apdist_verbs.jobs import submit
from apdist_verbs.jobs.submit import main, split_arguments


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ([], "nothing to run"),
        (["--"], "nothing to run"),
        (["--", "trian", "glyphs"], "did you mean 'train'"),
        (["--", "submit"], "unknown verb 'submit' after --"),
        (["--", "train", "glyphs", "--training.stepz", "5"], "mean '--training.steps'"),
        (["--ray.address", "head:6379", "--", "train"], "expected http://HEAD:8265"),
        (["--working-dir", "nowhere", "--", "train"], "nowhere is no folder"),
        (["--ray.address", "http://127.0.0.1:9", "--", "train"], "no Ray job server answers at"),
    ],
)
def test_a_job_that_cannot_be_submitted_is_refused_with_a_remedy(
    arguments: list[str], answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")  # the verb sets it
    with pytest.raises(ValueError, match=answer):
        main(arguments)


def test_only_the_first_two_dashes_part_the_arguments() -> None:
    argv = ["--working-dir", ".", "--", "search", "--", "-x.jpg"]
    assert split_arguments(argv) == (["--working-dir", "."], ["search", "--", "-x.jpg"])


def test_a_detached_job_is_handed_over_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = SimpleNamespace(submit_job=lambda **_: "raysubmit_7")
    monkeypatch.setattr(submit, "connect", lambda _: client)
    argv = ["--detach", "--ray.address", "http://head:8265", "--", "train", "glyphs"]
    assert main(argv) == 0
    assert "apdist logs raysubmit_7 --ray.address http://head:8265" in capsys.readouterr().out
