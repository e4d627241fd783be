"""`apdist stop`: a job ends, once."""

from __future__ import annotations

import pytest

from apdist_verbs.jobs import stop
from tests.pipelines.jobs.fakes import Cluster


def test_a_job_is_stopped_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    monkeypatch.setattr(stop, "connect", lambda _: cluster)
    assert stop.main(["new"]) == 0
    assert cluster.asked_to_stop == ["raysubmit_new"]
    assert "raysubmit_new: stopped" in capsys.readouterr().out
    assert stop.main(["old"]) == 0
    assert cluster.asked_to_stop == ["raysubmit_new"]
    assert "raysubmit_old has ended: succeeded" in capsys.readouterr().out


def test_a_cluster_that_does_not_stop_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()

    def refuse(_: str) -> None:
        raise RuntimeError("Request failed with status code 500\nand more")

    monkeypatch.setattr(cluster, "stop_job", refuse)
    monkeypatch.setattr(stop, "connect", lambda _: cluster)
    with pytest.raises(ValueError, match=r"does not stop job raysubmit_new \(Request .* 500\);"):
        stop.main(["new"])
