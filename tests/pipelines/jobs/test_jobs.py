"""`apdist jobs`: the jobs of a cluster as a table and as JSON."""

from __future__ import annotations

import json

import pytest

from apdist_verbs.jobs import jobs
from tests.pipelines.jobs.fakes import Cluster


def test_jobs_are_listed_the_newest_first_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "connect", lambda _: Cluster())
    assert jobs.main(["--json"]) == 0
    said = capsys.readouterr().out
    rows = json.loads(said)
    assert [(row["job"], row["state"]) for row in rows] == [
        ("raysubmit_new", "running"),
        ("raysubmit_old", "succeeded"),
    ]
    assert rows[1]["took"] == "61 s"
    assert "hidden" not in said
    assert jobs.main([]) == 0
    assert "raysubmit_new" in capsys.readouterr().out


def test_of_a_cluster_without_jobs_it_is_said_how_to_run_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    cluster.status.clear()
    monkeypatch.setattr(jobs, "connect", lambda _: cluster)
    assert jobs.main([]) == 0
    assert "apdist submit -- VERB" in capsys.readouterr().out
