import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from apdist.config import TrackingConfig
from apdist.training.tracking.mlflow_run import MlflowRun, RunGoneError
from apdist.training.tracking.tracker import Tracker, _gist
from tests.s3_server import free_ports

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    folder = tmp_path_factory.mktemp("mlflow")
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="tests")


def client(config: TrackingConfig) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(config.uri)


def rows(config: TrackingConfig, run_id: str, name: str) -> list[tuple[int, float, int]]:
    """Every entry of a metric."""
    found = client(config).get_metric_history(run_id, name)
    return sorted((m.step, m.value, m.timestamp) for m in found)


def test_what_is_logged_arrives(config: TrackingConfig, tmp_path: Path) -> None:
    tracker = Tracker(config, "one")
    tracker.begin({"loss.num_bins": 20, "data.shards": "https://u:geheim@h/x?s=geheim"})
    for step in range(5):
        tracker.log_metrics({"loss": 1 / (step + 1)}, step, 1000 + step)
    page = tmp_path / "report.html"
    page.write_text("<p>")
    tracker.log_file(lambda run: run.log_file(page))
    assert tracker.close()
    run = client(config).get_run(tracker.run_id)
    assert run.data.params == {"loss.num_bins": "20", "data.shards": "https://...@h/x?..."}
    assert rows(config, tracker.run_id, "loss") == [(s, 1 / (s + 1), 1000 + s) for s in range(5)]
    assert [f.path for f in client(config).list_artifacts(tracker.run_id)] == ["report.html"]
    assert run.info.status == "FINISHED"


def test_a_run_is_gone_on_with_and_a_step_that_is_there_is_not_logged_again(
    config: TrackingConfig,
) -> None:
    first = Tracker(config, "again")
    for step in range(4):
        first.log_metrics({"loss": 0.5, "seconds": 0.1}, step, 1000 + step)
    first.log_metrics({"eval_map": 0.1}, 0, 1000)
    first.close("KILLED")
    again = Tracker(config, "again", run_id=first.run_id)
    for step in range(2, 6):  # steps 2 and 3 are done anew, at another time and speed
        again.log_metrics({"loss": 0.5, "seconds": 0.2}, step, 2000 + step)
    again.log_metrics({"eval_map": 0.2}, 4, 2000)
    assert again.close()
    assert again.run_id == first.run_id
    assert [step for step, _, _ in rows(config, first.run_id, "loss")] == [0, 1, 2, 3, 4, 5]
    assert [value for _, value, _ in rows(config, first.run_id, "seconds")][2:] == [0.1, 0.1] + [
        0.2
    ] * 2
    assert [step for step, _, _ in rows(config, first.run_id, "eval_map")] == [0, 4]


@pytest.mark.parametrize("halted_in", ["a request before", "the question what is there"])
def test_a_process_that_was_taken_over_sends_nothing_after_the_request_on_its_way(
    halted_in: str, config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_wait, taken_over, asked = threading.Event(), threading.Event(), threading.Event()

    def may_send() -> bool:
        if taken_over.is_set():
            asked.set()
        return not taken_over.is_set()

    def on_its_way(*_: Any) -> None:
        both_wait.wait(60)
        taken_over.set()

    tracker = Tracker(config, "taken over", may_send=may_send)
    if halted_in == "a request before":
        tracker._add(on_its_way)
    else:
        monkeypatch.setattr(MlflowRun, "find_steps", on_its_way)
    tracker.log_metrics({"loss": 0.5}, 1, 1000)
    both_wait.set()
    assert asked.wait(60)
    assert rows(config, tracker.run_id, "loss") == []
    taken_over.clear()
    assert tracker.close()
    assert rows(config, tracker.run_id, "loss") == [(1, 0.5, 1000)]


def test_a_deleted_experiment_is_refused_with_how_to_restore_it(config: TrackingConfig) -> None:
    number = client(config).create_experiment("gone")
    client(config).delete_experiment(number)
    gone = TrackingConfig(uri=config.uri, experiment="gone")
    with pytest.raises(ValueError, match=f"'gone' was deleted .* restore -x {number}, or use anot"):
        Tracker(gone, "one")


def test_a_run_that_is_deleted_while_it_is_sent_is_told_in_one_warning(
    config: TrackingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    first = Tracker(config, "deleted")
    client(config).delete_run(first.run_id)
    first.log_metrics({"loss": 0.5}, 1, 1000)
    assert not first.close()
    for by_hand in (False, True):
        if by_hand:
            with pytest.raises(RunGoneError, match="was deleted there; restore it: mlflow runs"):
                Tracker(config, "deleted", run_id=first.run_id, by_hand=True)
        else:
            assert not Tracker(config, "deleted", run_id=first.run_id).close()
    told = [record.getMessage() for record in caplog.records if record.name.endswith("tracker")]
    assert len(told) == 2  # of the first, and of the one that went on
    for line in told:
        assert "takes nothing of this run, and nothing waits for it: the run" in line
        assert f"mlflow runs restore --run-id {first.run_id}, or send it anew when it has" in line
    client(config).restore_run(first.run_id)
    assert Tracker(config, "deleted", run_id=first.run_id, by_hand=True).close()


def test_an_address_is_told_without_its_password() -> None:
    tracker = Tracker(TrackingConfig(uri="http://127.0.0.1:1/m", enabled=False), "one")
    assert tracker.where() == "http://127.0.0.1:1/m (run one)"
    with pytest.raises(ValueError, match="tracking.uri nosuch://me@h/db cannot be opened"):
        Tracker(TrackingConfig(uri="nosuch://me@h/db"), "one")


def test_a_trial_has_its_parent(config: TrackingConfig) -> None:
    parent = Tracker(config, "parent")
    child = Tracker(config, "child", parent_id=parent.run_id)
    for tracker in (parent, child):
        tracker.close()
    tags = client(config).get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id


def test_an_outage_costs_a_warning_and_no_entry(
    config: TrackingConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apdist.training.tracking.tracker.FLUSH_S", 0.02)
    tracker = Tracker(config, "outage")
    assert tracker._run is not None
    send, tries = tracker._run.client.log_batch, []

    def away(*_: object, **__: object) -> None:
        tries.append(time.monotonic())
        raise ConnectionError("gone")

    monkeypatch.setattr(tracker._run.client, "log_batch", away)
    with caplog.at_level(logging.WARNING):
        for step in range(1000):
            tracker.log_metrics({"loss": 1.0}, step, step)
        while len(tries) < 3:
            time.sleep(0.01)
        monkeypatch.setattr(tracker._run.client, "log_batch", send)
        assert tracker.close()
    assert len(rows(config, tracker.run_id, "loss")) == 1000
    assert caplog.text.count("does not answer (gone)") == 1


def test_a_run_is_not_finished_while_something_is_missing(
    config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(config, "unfinished")
    assert tracker._run is not None

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(tracker._run.client, "log_batch", away)
    tracker.log_metrics({"loss": 1.0}, 0, 0)
    assert not tracker.close()
    assert client(config).get_run(tracker.run_id).info.status == "RUNNING"


def test_a_server_that_is_away_does_not_keep_a_training_from_its_start(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (port,) = free_ports(1)
    tracker = Tracker(TrackingConfig(uri=f"http://127.0.0.1:{port}"), "away")
    tracker.log_metrics({"loss": 1.0}, 0, 0)
    assert not tracker.close()
    assert tracker.run_id == ""
    assert caplog.text.count("does not answer (Connection refused); nothing waits for it") == 1


def test_a_long_reason_of_an_outage_ends_with_a_whole_word() -> None:
    text = _gist(RuntimeError("wait " * 100))
    assert len(text) <= 300
    assert text.endswith("wait ...")


def test_a_store_that_cannot_be_opened_is_refused_but_for_a_resume(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/file/x.db")
    with pytest.raises(ValueError, match=r"cannot be opened.*--tracking.no-enabled"):
        Tracker(config, "x")
    assert not Tracker(config, "x", run_id="known").close()


def test_the_command_that_shows_the_curves_is_quoted(config: TrackingConfig) -> None:
    tracker = Tracker(TrackingConfig(uri="sqlite:////my curves.db", enabled=False), "x")
    told = "mlflow ui --backend-store-uri 'sqlite:////my curves.db', then http://127.0.0.1:5000"
    assert tracker.where() == f"{told} (run x)"


def test_a_run_is_told_by_its_page_among_trained_models(config: TrackingConfig) -> None:
    tracker = Tracker(config, "page")
    tracker.begin({})
    assert tracker.close()
    number = client(config).get_run(tracker.run_id).info.experiment_id
    page = f"/#/experiments/{number}/runs/{tracker.run_id}?workflowType=machine_learning"
    assert tracker.where().endswith(f", then http://127.0.0.1:5000{page}")


def test_tracking_can_be_switched_off() -> None:
    tracker = Tracker(TrackingConfig(enabled=False), "off")
    tracker.log_metrics({"loss": 1.0}, 0, 0)
    tracker.begin({"a": 1})
    assert tracker.close()
    assert tracker.run_id == ""
