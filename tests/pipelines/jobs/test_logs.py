"""`apdist logs`: a job is found by a part of its id, and its exit code comes back."""

from __future__ import annotations

import pytest

from apdist_verbs.jobs import logs
from tests.pipelines.jobs.fakes import Cluster


def test_a_log_ends_with_the_exit_code_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []
    monkeypatch.setattr(logs, "connect", lambda _: Cluster())
    monkeypatch.setattr(logs, "follow", lambda _, job: followed.append(job))
    assert logs.main(["new"]) == 3
    assert followed == ["raysubmit_new"]


def test_ctrl_c_ends_the_following_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "connect", lambda _: Cluster())
    monkeypatch.setattr(logs, "follow", interrupted)
    assert logs.main(["old", "--ray.address", "http://head:8265"]) == 130
    said = capsys.readouterr().out
    assert "apdist stop raysubmit_old --ray.address http://head:8265" in said


@pytest.mark.parametrize(
    ("job", "answer"),
    [
        ("missing", "no job 'missing'; it has raysubmit_new, raysubmit_old: see `apdist jobs`"),
        ("raysubmit", "'raysubmit' is part of 2 jobs: raysubmit_new, raysubmit_old; give one"),
        ("", "JOB is empty"),
    ],
)
def test_a_job_that_is_not_there_is_refused(
    job: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "connect", lambda _: Cluster())
    with pytest.raises(ValueError, match=answer):
        logs.main([job])
