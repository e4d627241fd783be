"""One run in MLflow: what is sent twice is there once."""

from typing import Any

import pytest

from apdist.config import TrackingConfig
from apdist.training.tracking.mlflow_run import MAX_BATCH, MlflowRun, Point
from tests.training.tracking.test_tracker import rows

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    folder = tmp_path_factory.mktemp("mlflow")
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="tests")


def test_what_was_sent_without_an_answer_is_there_once_when_sent_again(
    config: TrackingConfig,
) -> None:
    tags = {"apdist.identity": "unanswered"}
    points = [Point({"loss": 1.0, "x": 2.0}, step, 1000 + step) for step in range(3)]
    first = MlflowRun(config, "unanswered", "", tags)
    first.log_points(points)
    second = MlflowRun(config, "unanswered", "", tags)  # as if the first answer was lost
    assert second.run_id == first.run_id
    second._steps["loss"] = set()
    second.log_points(points)
    assert len(rows(config, first.run_id, "loss")) == 3


def test_a_list_is_logged_as_it_is_written_on_the_command_line(config: TrackingConfig) -> None:
    run = MlflowRun(config, "lists", "", {"apdist.identity": "lists"})
    run.log_params({"training.freeze": ("a.*", "b"), "training.rates": (), "training.steps": 3})
    assert run.client.get_run(run.run_id).data.params == {
        "training.freeze": "a.* b",
        "training.rates": "none",
        "training.steps": "3",
    }


def test_the_figures_of_an_event_are_never_divided_over_two_requests(
    config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MlflowRun(config, "many", "", {"apdist.identity": "many"})
    sizes = []
    send = run.client.log_batch

    def counted(run_id: str, metrics: Any) -> None:
        sizes.append(len(metrics))
        send(run_id, metrics=metrics)

    monkeypatch.setattr(run.client, "log_batch", counted)
    run.log_points([Point({f"m{i}": 1.0 for i in range(7)}, step, step) for step in range(300)])
    assert sum(sizes) == 2100
    assert all(size <= MAX_BATCH and size % 7 == 0 for size in sizes)
