import threading
from pathlib import Path

import pytest

from apdist.config import TrackingConfig
from apdist.training.tracking import Tracker
from tests.training.test_events import SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    folder = tmp_path_factory.mktemp("mlflow")
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="tests")


def read(config: TrackingConfig, run_id: str) -> "object":
    from mlflow import MlflowClient

    return MlflowClient(config.uri).get_run(run_id)


def test_what_is_logged_arrives(config: TrackingConfig, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    tracker = Tracker(config, "one")
    tracker.log_params({"loss.num_bins": 20})
    for step in range(5):
        tracker.log_metrics({"loss": 1 / (step + 1)}, step)
    page = tmp_path / "report.html"
    page.write_text("<p>")
    tracker.log_file(page)
    tracker.close()
    client = MlflowClient(config.uri)
    run = client.get_run(tracker.run_id)
    assert run.data.params == {"loss.num_bins": "20"}
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(s, 1 / (s + 1)) for s in range(5)]
    assert [f.path for f in client.list_artifacts(tracker.run_id)] == ["report.html"]
    assert run.info.status == "FINISHED"


def test_a_run_is_gone_on_with_and_a_trial_has_its_parent(config: TrackingConfig) -> None:
    parent = Tracker(config, "parent")
    parent.close("KILLED")
    again = Tracker(config, "parent", run_id=parent.run_id)
    again.log_metrics({"loss": 0.5}, 9)
    again.close()
    child = Tracker(config, "child", parent_id=parent.run_id)
    child.close()
    assert again.run_id == parent.run_id
    assert read(config, parent.run_id).data.metrics == {"loss": 0.5}  # type: ignore[attr-defined]
    tags = read(config, child.run_id).data.tags  # type: ignore[attr-defined]
    assert tags["mlflow.parentRunId"] == parent.run_id


def test_a_store_that_fails_later_costs_a_warning_and_no_time(
    config: TrackingConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(config, "fails")

    callers = set()

    def fail(*_: object, **__: object) -> None:
        callers.add(threading.current_thread().name)
        raise ConnectionError("gone")

    monkeypatch.setattr(tracker._client, "log_batch", fail)
    for step in range(1000):
        tracker.log_metrics({"loss": 1.0}, step)
    tracker.close()
    assert callers == {"tracker"}
    assert caplog.text.count("does not answer (gone)") == 1


def test_a_store_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be opened.*--tracking.no-enabled"):
        Tracker(TrackingConfig(uri=f"sqlite:///{tmp_path}/file/x.db"), "x")


@pytest.mark.filterwarnings("ignore")
def test_the_command_that_shows_the_curves_is_quoted(tmp_path: Path) -> None:
    tracker = Tracker(TrackingConfig(uri=f"sqlite:///{tmp_path}/my curves.db"), "x")
    tracker.close()
    assert tracker.where() == f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/my curves.db'"


def test_tracking_can_be_switched_off() -> None:
    tracker = Tracker(TrackingConfig(enabled=False), "off")
    tracker.log_metrics({"loss": 1.0}, 0)
    tracker.log_params({"a": 1})
    tracker.close()
    assert tracker.run_id == ""


def test_steps_and_evaluations_are_tracked_by_these_names(config: TrackingConfig) -> None:
    tracker = Tracker(config, "names")
    for event in SAMPLES:
        tracker.record(event)
    tracker.close()
    run = read(config, tracker.run_id)
    assert run.data.metrics == {  # type: ignore[attr-defined]
        "loss": 0.5,
        "images_per_s": 900.0,
        "lone_queries": 0.0,
        "eval_map": 0.25,
        "eval_recall_at_1": 0.5,
        "eval_r_precision": 0.2,
        "eval_seconds": 0.1,
        "eval_step": 5.0,
    }
    assert run.data.tags["apdist.activations"] == "store"  # type: ignore[attr-defined]
