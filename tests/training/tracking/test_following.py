"""What the driver keeps of a run."""

import json
import math
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apdist.config import Config, override
from apdist.data import storage
from apdist.training.events import (
    Ended,
    Evaluated,
    MachineSampled,
    Noticed,
    Restarted,
    Started,
    StepDone,
)
from apdist.training.run_folder.lease import LeaseLost, held
from apdist.training.run_folder.pages import Recorder, write_page
from apdist.training.run_folder.runs import Run, create_run, open_run
from apdist.training.tracking.following import Follower, forget, is_unsettled, log_report, settle
from tests.training.run_folder.test_runs import started
from tests.training.test_events import SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def run(small_config: Config, store: str) -> Run:
    options = {"tracking.enabled": True, "tracking.uri": store, "run.name": "a"}
    return create_run(override(small_config, options), "glyphs")


def in_mlflow(run: Run) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(run.config.tracking.uri).get_run(str(run.info["tracking_run_id"]))


def steps_in_mlflow(run: Run, name: str = "train/loss") -> list[int]:
    from mlflow import MlflowClient

    client = MlflowClient(run.config.tracking.uri)
    return [m.step for m in client.get_metric_history(str(run.info["tracking_run_id"]), name)]


def step(number: int) -> StepDone:
    return StepDone(step=number, figures={"loss": 0.5}, time_ms=1000 + number)


def test_steps_evaluations_and_restarts_are_tracked_by_these_names(run: Run) -> None:
    follower = Follower(run)
    for event in SAMPLES:
        if not isinstance(event, Started):
            follower(event)
    assert follower.close("FINISHED")
    found = in_mlflow(run)
    assert found.data.metrics == {
        "train/loss": 0.5,
        "speed/images_per_s": 900.0,
        "train/lone_queries": 0.0,
        "eval/map": 0.25,
        "eval/recall_at_1": 0.5,
        "eval/r_precision": 0.2,
        "eval/seconds": 0.1,
        "eval/step": 5.0,
        "set/roxford/medium/map_trapezoid": 0.5,
        "set/roxford/medium/precision_at_1": 0.75,
        "set/roxford/seconds": 0.2,
        "system/cpu_utilization_percentage": 50.0,
        "system/gpu_0_x": 1.0,
    }
    assert found.data.tags["apdist.notice.falling"] == "step 5: mAP falls"
    assert found.data.tags["apdist.restart.1700000004000"].startswith("worker 1 on there: its")
    assert found.data.params["preset"] == "glyphs"
    assert found.info.status == "FINISHED"
    assert open_run(run.uri).info["tracked"] == "FINISHED"


def test_after_a_restart_each_step_is_once_in_both_places(run: Run) -> None:
    follower = Follower(run)
    recorder = Recorder(run.uri)
    for number in range(1, 6):
        follower(step(number))
        if number <= 3:
            recorder.add(step(number))
    pages, content = recorder.cut()
    write_page(run.uri, pages[0], content)
    follower(started(3, tuple(pages)))
    follower(step(5))  # from a worker that is gone
    for number in range(4, 8):
        follower(step(number))
    assert follower.close("KILLED")
    assert steps_in_mlflow(run) == [1, 2, 3, 4, 5, 6, 7]
    assert [event.step for event in open_run(run.uri).history] == [1, 2, 3, 4, 5, 6, 7]


def test_what_a_killed_driver_left_is_sent_by_who_opens_the_run_next(run: Run) -> None:
    follower = Follower(run)
    for number in range(1, 4):
        follower(step(number))
    follower.tracker.close(status="")  # the rest of the driver's work is never done
    run.add(step(4))
    run.add(Ended(step=4, model_id="m", weights="the last", time_ms=1005))
    again = open_run(run.uri)
    assert is_unsettled(again)
    assert settle(again)
    assert steps_in_mlflow(run) == [1, 2, 3, 4]
    assert in_mlflow(run).info.status == "FINISHED"
    assert not is_unsettled(open_run(run.uri))


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_run_that_failed_while_mlflow_was_away_is_settled_as_failed(
    run: Run, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(run)
    follower(step(1))
    with monkeypatch.context() as away:
        away.setattr(type(follower.tracker), "close", lambda self, *_: False)
        assert not follower.close("FAILED")
    follower.tracker.close(status="")
    again = open_run(run.uri)
    if goes_on:  # and its next driver is killed
        Follower(again).tracker.close(status="")
        again = open_run(run.uri)
    assert is_unsettled(again)
    assert settle(again)
    assert in_mlflow(run).info.status == ("KILLED" if goes_on else "FAILED")


def test_a_run_that_was_taken_over_is_left_alone(run: Run) -> None:
    with held(run.uri, print) as run.lease:
        follower = Follower(run)
        follower(step(1))
        storage.create(storage.join(run.uri, "writer/00000009.json"), b"{}")
        run.lease.renewed_s = -math.inf  # as after a long halt
        before = Path(run.uri, "metrics.jsonl").read_bytes()
        with pytest.raises(LeaseLost, match="was taken over"):
            follower(step(2))
        assert follower.close("FAILED")
    assert Path(run.uri, "metrics.jsonl").read_bytes() == before
    assert in_mlflow(run).info.status == "RUNNING"


def test_a_run_that_changes_its_store_is_whole_there(run: Run, tmp_path: Path) -> None:
    follower = Follower(run)
    follower(step(1))
    assert follower.close("KILLED")
    first = run.info["tracking_run_id"]
    run.config = override(run.config, {"tracking.experiment": "another"})
    assert settle(run)
    assert run.info["tracking_run_id"] != first
    assert steps_in_mlflow(run) == [1]


def test_a_run_whose_making_nobody_was_told_of_is_found_again(run: Run) -> None:
    follower = Follower(run)
    follower.tracker.close(status="")
    again = open_run(run.uri)  # the driver was killed before it wrote down the id
    again.info["tracking_run_id"] = ""
    follower = Follower(again)
    follower.tracker.close(status="")
    assert follower.tracker.run_id == run.info["tracking_run_id"]


def test_a_run_that_is_being_trained_is_not_settled_by_others(run: Run) -> None:
    Follower(run).tracker.close(status="")
    with held(run.uri, print):
        assert not is_unsettled(open_run(run.uri))
    assert is_unsettled(open_run(run.uri))


def test_a_report_is_logged_whatever_the_run_is_doing(run: Run, tmp_path: Path) -> None:
    follower = Follower(run)
    follower.close("KILLED")
    page, gallery = tmp_path / "report.html", tmp_path / "gallery.png"
    page.write_text("<p>")
    Image.new("RGB", (1300, 700)).save(gallery)
    log_report(open_run(run.uri), page, gallery)
    assert in_mlflow(run).info.status == "KILLED"
    folder = artifacts(run)
    assert sorted(os.listdir(folder)) == ["config.json", "gallery.jpg", "report.html"]
    assert max(Image.open(folder / "gallery.jpg").size) == 640
    link = f"](get-artifact?path=gallery.jpg&run_uuid={in_mlflow(run).info.run_id})"
    assert link in note(run)
    Follower(open_run(run.uri)).close("KILLED")  # gone on with, and stopped: it stays
    assert link in note(run)


def test_a_description_has_the_figures_and_spares_what_a_person_wrote(run: Run) -> None:
    from mlflow import MlflowClient

    follower = Follower(run)
    for number, share in ((0, 0.25), (2, 0.75)):
        follower(Evaluated(step=number, split="val", figures={"map": share / 2}, seconds=1))
        follower(Evaluated(step=number, split="test", figures={"map": share}, seconds=1))
    follower(Evaluated(step=2, split="late", figures={"map": 0.5}, seconds=1))
    follower(Noticed(step=2, topic="x", text="<script>`a`\nb"))
    follower.close("KILLED")
    assert "| &emsp; | test before&emsp; | test after&emsp; | val before&emsp; |" in note(run)
    assert "| val after&emsp; | late after&emsp; |" in note(run)  # nobody measured it before
    row = "| mAP&emsp; | 0.2500&emsp; | 0.7500&emsp; | 0.1250&emsp; | 0.3750&emsp; | 0.5000&emsp; |"
    assert row in note(run)
    assert "- Step 2: &lt;script>'a' b" in note(run)
    client = MlflowClient(run.config.tracking.uri)
    client.set_tag(str(run.info["tracking_run_id"]), "mlflow.note.content", "mine")
    Follower(open_run(run.uri)).close("KILLED")
    assert note(run) == "mine"


def test_model_and_options_lie_beside_the_run_without_secrets(run: Run) -> None:
    run.config = override(run.config, {"data.shards": "https://u:geheim@h/x?s=geheim"})
    for name in ("model.json", "model.safetensors"):
        Path(run.uri, name).write_bytes(b"weights")
    follower = Follower(run)
    follower(Ended(step=0, model_id="m", weights="the last"))
    assert follower.close("FINISHED")
    assert sorted(os.listdir(artifacts(run))) == ["config.json", "model"]
    assert sorted(os.listdir(artifacts(run) / "model")) == ["model.json", "model.safetensors"]
    assert json.loads((artifacts(run) / "config.json").read_text())["data"]["shards"] == (
        "https://...@h/x?..."
    )
    everything = f"{in_mlflow(run).to_dictionary()}{(artifacts(run) / 'config.json').read_text()}"
    assert "geheim" not in everything


@pytest.mark.parametrize("max_mb", [0, 1])
def test_a_model_larger_than_wanted_stays_in_the_folder(run: Run, max_mb: int) -> None:
    run.config = override(run.config, {"tracking.max_model_mb": max_mb})
    Path(run.uri, "model.json").write_bytes(b"{}")
    Path(run.uri, "model.safetensors").write_bytes(bytes(max_mb * 1_000_000))
    follower = Follower(run)
    follower(Ended(step=0, model_id="m", weights="the last"))
    assert follower.close("FINISHED")
    assert os.listdir(artifacts(run)) == ["config.json"]


def test_files_that_find_no_place_keep_neither_figures_nor_the_end_waiting(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def away(*_: Any, **__: Any) -> None:
        raise PermissionError("the bucket is not yours")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", away)
        follower = Follower(run)
        follower(step(1))
        assert not follower.close("KILLED")  # so that a person hears of `apdist track`
    assert "does not take files (the bucket is not yours)" in caplog.text
    assert steps_in_mlflow(run) == [1]
    assert in_mlflow(run).info.status == "KILLED"
    again = open_run(run.uri)
    assert not is_unsettled(again)  # what is not asked for is not tried for ever
    assert settle(again)
    assert os.listdir(artifacts(run)) == ["config.json"]


def test_what_began_a_run_is_told_whoever_sends_it(run: Run) -> None:
    found = {"name": "glyphs train", "context": "training", "uri": "s3://a/b"}
    run.info["datasets"] = [found | {"fingerprint": "abc", "num_images": 9, "num_classes": 3}]
    follower = Follower(run)
    follower.tracker.close(status="")
    again = open_run(run.uri)
    told = dict(again.info["surroundings"])
    again.info["surroundings"]["apdist.command"] = "apdist train x"  # as of another process
    again.info["tracking_identity"], again.info["tracking_run_id"] = "anew", ""
    assert settle(again)
    there = in_mlflow(again)
    assert there.data.tags["apdist.command"] == "apdist train x"
    assert there.data.tags["mlflow.user"] == told["mlflow.user"]
    assert there.data.params["preset"] == "glyphs"
    (used,) = there.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("glyphs train", "abc")
    assert used.dataset.source_type == "s3"
    assert json.loads(used.dataset.profile) == {"num_rows": 9, "num_classes": 3}
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    settle(open_run(again.uri))
    assert len(in_mlflow(again).inputs.dataset_inputs) == 1


def test_a_run_that_is_settled_late_has_lasted_until_its_last_event(run: Run) -> None:
    follower = Follower(run)
    follower(Ended(step=4, model_id="m", weights="the last", time_ms=1700000000000))
    for name in ("model.json", "model.safetensors"):
        Path(run.uri, name).write_bytes(b"")
    follower.close("FINISHED")
    assert settle(open_run(run.uri))
    assert in_mlflow(run).info.end_time == 1700000000000


def test_machines_are_told_apart_where_there_are_several(run: Run) -> None:
    follower = Follower(run)
    follower(replace(started(0, ()), hosts=["here", "there"]))
    began = int(run.info["tracking_began_ms"])
    for host, seconds in (("here", 1), ("there", 1), ("here", 11)):
        figures = {"cpu_utilization_percentage": float(seconds)}
        follower(MachineSampled(host=host, figures=figures, time_ms=began + 1000 * seconds))
    follower.close("KILLED")
    assert steps_in_mlflow(run, "system/here/cpu_utilization_percentage") == [1, 11]
    assert steps_in_mlflow(run, "system/there/cpu_utilization_percentage") == [1]


def artifacts(run: Run) -> Path:
    return Path(in_mlflow(run).info.artifact_uri.removeprefix("file://"))


def note(run: Run) -> str:
    return str(in_mlflow(run).data.tags["mlflow.note.content"])


def test_a_folder_that_went_away_does_not_hide_why(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    follower = Follower(run)
    follower(Evaluated(step=0, split="test", figures={"map": 0.5}, seconds=1))
    run.is_behind = True
    for name in storage.list_files(run.uri):
        storage.remove(storage.join(run.uri, name))
    Path(run.uri).touch()  # a file where the folder was
    assert follower.close("FAILED")
    assert "metrics.jsonl is behind" in caplog.text


def test_a_restart_is_no_figure(run: Run) -> None:
    follower = Follower(run)
    told = [event for event in SAMPLES if isinstance(event, Restarted)]
    follower.track(told)
    follower.close("KILLED")
    assert in_mlflow(run).data.metrics == {}


def test_a_run_that_was_refused_is_in_mlflow_no_more(run: Run) -> None:
    Follower(run).close("FAILED")
    assert run.discard_if_untouched()
    assert not Path(run.uri).exists()
    forget(run)
    assert in_mlflow(run).info.lifecycle_stage == "deleted"


def test_a_database_with_nothing_but_a_refused_run_goes_with_it(run: Run, tmp_path: Path) -> None:
    Follower(run).close("FAILED")
    run_id, path = str(run.info["tracking_run_id"]), tmp_path / "mlflow.db"
    shutil.copy(run.config.tracking.uri.removeprefix("sqlite:///"), path)
    run.config = override(run.config, {"tracking.uri": f"sqlite:///{path}"})
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM runs WHERE run_uuid != ?", [run_id])
        database.execute("INSERT INTO experiments (name) VALUES ('mine')")
        database.commit()
        forget(run)
        assert path.exists()
        database.execute("DELETE FROM experiments WHERE name NOT IN ('Default', 'apdist')")
        database.commit()
    forget(run)
    assert not path.exists()


def test_an_experiment_that_another_training_makes_meanwhile_is_used(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    Follower(run).close("FAILED")
    asked: list[str] = []
    look = MlflowClient.get_experiment_by_name

    def too_early(client: Any, name: str) -> Any:
        asked.append(name)
        return None if len(asked) == 1 else look(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", too_early)
    second = create_run(override(run.config, {"run.name": "second"}), "glyphs")
    Follower(second).close("FAILED")
    assert len(asked) == 2
    assert in_mlflow(second).info.experiment_id == in_mlflow(run).info.experiment_id
