"""One run in MLflow: what is sent twice is there once."""

from pathlib import Path
from typing import Any

import pytest

from apdist.config import TrackingConfig
from apdist.training.tracking.mlflow_run import MAX_BATCH, SMALL_BYTES, About, MlflowRun, Point
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
    options = {"training.freeze": ("a.*", "b"), "training.rates": (), "training.steps": 3}
    run.begin(About(options, {}, ()))
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


def test_an_experiment_is_of_models_unless_a_person_says_otherwise(config: TrackingConfig) -> None:
    def kind() -> str | None:
        found = run.client.get_experiment(run.experiment_id)
        return found.tags.get("mlflow.experimentKind")

    run = MlflowRun(config, "kinds", "", {"apdist.identity": "kinds"})
    run.begin(About({}, {}, ()))
    assert kind() == "custom_model_development"
    run.client.set_experiment_tag(run.experiment_id, "mlflow.experimentKind", "regression")
    MlflowRun(config, "again", "", {"apdist.identity": "kinds again"})
    assert kind() == "regression"


def test_what_a_killed_driver_began_to_tell_is_told_to_its_end(config: TrackingConfig) -> None:
    run = MlflowRun(config, "half", "", {"apdist.identity": "half"})
    run.begin(About({"a": 1}, {"x": "first"}, ()))
    # More than go into one request; options cannot be changed there, and are not.
    options = {"a": 2} | {f"option.{number}": number for number in range(250)}
    run.begin(About(options, {"x": "second", "y": "z"}, ()))
    data = run.client.get_run(run.run_id).data
    assert data.params == {"a": "1"} | {f"option.{n}": str(n) for n in range(250)}
    assert (data.tags["x"], data.tags["y"]) == ("first", "z")


def test_a_large_file_that_is_there_is_not_sent_again(
    config: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MlflowRun(config, "files", "", {"apdist.identity": "files"})
    (tmp_path / "small").write_bytes(b"1")
    (tmp_path / "large").write_bytes(bytes(SMALL_BYTES))
    sent = []
    send = run.client.log_artifact

    def counted(run_id: str, path: str, *folder: str) -> None:
        sent.append(Path(path).name)
        send(run_id, path, *folder)

    monkeypatch.setattr(run.client, "log_artifact", counted)
    for _ in range(2):
        run.log_file(tmp_path / "small")
        run.log_file(tmp_path / "large", "folder")
    assert sent == ["small", "large", "small"]
