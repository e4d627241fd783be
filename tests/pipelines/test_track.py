"""Sending a finished run to MLflow: to another store, anew, and what was taken away there."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from apdist.config import Config, override
from apdist.training.events import Ended, StepDone
from apdist.training.run_folder.runs import Run, create_run, open_run
from apdist_verbs.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def run(small_config: Config) -> Run:
    """One that was trained without tracking, to its end."""
    made = create_run(override(small_config, {"run.name": "a", "training.steps": 1}), "glyphs")
    for name in ("model.json", "model.safetensors"):
        Path(made.uri, name).write_bytes(b"{}")
    made.add(StepDone(step=1, figures={"loss": 0.5}, time_ms=1001))
    made.add(Ended(step=1, model_id="m", weights="the last", time_ms=1002))
    return made


def client(store: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(store)


def tracking_run(run: Run) -> str:
    return str(open_run(run.uri).info["tracking_run_id"])


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def command_in(line: str) -> list[str]:
    """The words after the last `apdist`."""
    return shlex.split(line.rpartition("apdist ")[2])


def test_a_run_without_tracking_is_sent_where_it_is_told_and_stays_there(
    run: Run, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "track", run.uri)
    assert command_in(said) == ["track", run.uri, "--tracking.uri", "sqlite:///mlflow.db"]
    words = ["--tracking.uri", store, "--tracking.experiment", "late"]
    assert main(["train", "--resume", run.uri, "--tracking.enabled", *words]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "tracking.enabled True (was False)" in told
    assert "not applied, for nothing is trained any more; send it there: apdist track" in told
    assert not open_run(run.uri).config.tracking.enabled
    assert main(command_in(told)) == 0
    kept = open_run(run.uri).config.tracking
    assert (kept.enabled, kept.uri, kept.experiment) == (True, store, "late")
    there = client(store).get_run(tracking_run(run))
    assert there.data.metrics == {"train/loss": 0.5}
    assert there.info.status == "FINISHED"
    assert len(there.inputs.dataset_inputs) > 0
    assert main(["track", run.uri]) == 0
    assert tracking_run(run) == there.info.run_id


def test_a_run_that_was_deleted_there_is_told_and_is_sent_anew(
    run: Run, store: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["--tracking.uri", store, "--tracking.experiment", "deleting"]
    assert main(["track", run.uri, *words]) == 0
    known = tracking_run(run)
    client(store).delete_run(known)
    before = Path(run.uri, "run.json").read_text()
    said = refused(capsys, "track", run.uri)
    restore = f"{known} was deleted there; restore it: mlflow runs restore --run-id {known}"
    assert f"{store}: the run {restore}, or send it anew:" in said
    assert "answer" not in said + caplog.text
    assert Path(run.uri, "run.json").read_text() == before
    assert main(command_in(said)) == 0
    assert tracking_run(run) != known
    experiment = client(store).get_experiment_by_name("deleting").experiment_id
    client(store).delete_experiment(experiment)
    said = refused(capsys, "track", run.uri)
    assert f"restore it: mlflow experiments restore -x {experiment}, or use another" in said
    assert main(["track", run.uri, "--tracking.experiment", "another"]) == 0


def test_a_store_that_is_removed_or_has_no_such_run_is_told_and_nothing_is_made(
    run: Run, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def known_to(uri: str) -> None:
        run.config = override(run.config, {"tracking.enabled": True, "tracking.uri": uri})
        run.save_config()
        known = {"tracking_run_id": "0" * 32, "tracking_identity": "x", "tracked": "FINISHED"}
        run.save_info(tracking_store=f"{uri} apdist", **known)

    known_to(f"sqlite:///{tmp_path}/removed.db")
    said = refused(capsys, "track", run.uri)
    assert f"there is no {tmp_path}/removed.db any more, which had the run 000" in said
    assert command_in(said) == ["track", run.uri, "--anew"]
    assert not Path(tmp_path, "removed.db").exists()
    client(store)
    known_to(store)
    said = refused(capsys, "track", run.uri)
    assert f"it has no run {'0' * 32}; restore it there, or send it anew" in said


def test_a_store_that_cannot_be_one_leaves_the_run_as_it_is(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [Path(run.uri, name).read_text() for name in ("run.json", "config.json")]
    for uri, message in (
        (f"sqlite:///{run.uri}/model.json", "is no sqlite database; correct it"),
        ("nosuch://h/db", "tracking.uri nosuch://h/db cannot be opened"),
        ("http://u:geheim@h", "holds a password"),
    ):
        said = refused(capsys, "track", run.uri, "--tracking.uri", uri)
        assert message in said
        assert "no-enabled" not in said
        found = [Path(run.uri, name).read_text() for name in ("run.json", "config.json")]
        assert found == before
