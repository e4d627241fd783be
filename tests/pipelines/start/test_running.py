"""Runs trained in this process (Ray Train with num_workers=0), by what `apdist train` calls."""

import threading
from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.training import stepping
from apdist.training.cluster import launch
from apdist.training.cluster.ends import TrainingError
from apdist.training.cluster.launch import run_training
from apdist.training.events import Ended, Evaluated, Event, StepDone
from apdist.training.job import Job
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.runs import Run, create_run, open_run
from apdist_verbs.start.running import train_run
from tests.pictures import write_small_set

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


def step_of_newest(run: Run) -> int:
    found = newest_sound(run.uri)
    assert found is not None
    return found.marker.step


def test_training_goes_through_ray_train_and_leaves_a_whole_run(small_config: Config) -> None:
    run = create_run(override(small_config, {"run.name": "a"}), "test")
    assert train_run(run) == 0
    again = open_run(run.uri)
    assert [event.step for event in again.of_kind(StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in again.of_kind(Evaluated)] == [0, 3, 6]
    assert len(again.of_kind(Ended)) == 1
    assert step_of_newest(run) == 6
    assert len(list(Path(run.uri, "checkpoints").iterdir())) == small_config.checkpoint.keep
    names = {path.name for path in Path(run.uri).iterdir()}
    assert {"config.json", "run.json", "metrics.jsonl", "model.safetensors"} <= names
    assert not [name for name in names if name.endswith(".tmp")]


def test_ctrl_c_in_a_run_says_how_to_go_on(
    small_config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    config = override(small_config, {"training.steps": 200, "run.name": "a"})
    run = create_run(config, "test")
    record = Run.record

    def interrupt(self: Run, event: Event) -> bool:
        if isinstance(event, StepDone) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return record(self, event)

    monkeypatch.setattr(Run, "record", interrupt)
    assert train_run(run) == 130
    said = capsys.readouterr().out.replace("\n", "")
    assert f"apdist train --resume {run.uri}" in said
    done = open_run(run.uri).steps_done
    assert 2 <= done < 200
    assert step_of_newest(run) == done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_stop_while_ray_starts_says_how_to_go_on(
    small_config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(launch, "ray_cluster", stopped)
    run = create_run(override(small_config, {"run.name": "a", "ray.num_workers": 1}), "test")
    assert train_run(run) == 130
    said = capsys.readouterr().out.replace("\n", "")
    assert f"stopped after step 0; go on with: apdist train --resume {run.uri}" in said


def test_a_corrupt_image_ends_the_run_with_its_name(small_config: Config, tmp_path: Path) -> None:
    write_small_set(tmp_path / "shards")
    catalogue = read_catalogue(str(tmp_path / "shards")).select("train")
    for path in (tmp_path / "shards").glob("train-*.tar"):
        content = bytearray(path.read_bytes())
        for row in catalogue.table.to_pylist():
            if row["shard"] == path.name:
                content[row["offset"] + 40] ^= 0xFF
        path.write_bytes(bytes(content))
    config = override(
        small_config, {"data.shards": str(tmp_path / "shards"), "data.eval_split": ""}
    )
    run = create_run(config, "test")
    with pytest.raises(ValueError, match=r"image 'class_.*' at byte .*checksum"):
        run_training(Job(run.config, run.uri), lambda _: None)


def test_a_failure_of_our_own_is_reported_and_kept(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the network is on fire")

    monkeypatch.setattr(stepping, "global_step", fail)
    run = create_run(small_config, "test")
    with pytest.raises(TrainingError, match="on fire.*error.log.*--resume"):
        run_training(Job(run.config, run.uri), lambda _: None)
    assert "on fire" in Path(run.uri, "error.log").read_text()


class DriverError(OSError):
    """The driver cannot go on."""


def test_a_driver_that_fails_leaves_no_trainer_and_gets_no_checkpoint(
    small_config: Config,
) -> None:
    rare = {"training.steps": 100_000, "checkpoint.every_steps": 100_000}
    run = create_run(override(small_config, rare | {"data.eval_split": ""}), "test")

    def fail(event: Event) -> None:
        if isinstance(event, StepDone):
            raise DriverError("the disk is full")

    with pytest.raises(DriverError):
        run_training(Job(run.config, run.uri), fail)
    assert "trainer" not in {thread.name for thread in threading.enumerate()}
    assert newest_sound(run.uri) is None
