"""`apdist train` in this process (Ray Train with num_workers=0)."""

import re
import shlex
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from apdist.config import Config, override
from apdist.config.losses import LOSSES
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.loss.building import build_loss
from apdist.training import stepping
from apdist.training.cluster import launch
from apdist.training.cluster.ends import TrainingError
from apdist.training.cluster.launch import run_training
from apdist.training.events import Ended, Evaluated, Event, StepDone
from apdist.training.job import Job
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.runs import Run, create_run, open_run
from apdist_verbs.start.start import read_start
from apdist_verbs.train import (
    check_data,
    check_model,
    new_run,
    train_run,
    with_absolute_paths,
    with_own_side,
)
from tests.config.test_losses import shown
from tests.pictures import write_small_set
from tests.places import ROOT
from tests.reference import unit_rows
from tests.tiny_models import save_preprocessor, save_tiny

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


def test_a_decoder_that_is_not_here_is_refused_before_pictures_are_prepared(
    small_config: Config,
) -> None:
    with pytest.raises(ValueError, match="data.decoder is pillow-0.1, and here is"):
        check_model(override(small_config, {"data.decoder": "pillow-0.1"}))


def test_what_is_used_and_left_out_is_said_before_training(small_config: Config) -> None:
    line = check_data(small_config)
    assert "48 training images of 8 classes" in line


def test_a_split_that_is_missing_is_refused_before_training(small_config: Config) -> None:
    with pytest.raises(ValueError, match="'val' is not in"):
        check_data(override(small_config, {"data.eval_split": "val"}))


MANUAL = (ROOT / "docs" / "losses.md").read_text()
COMMANDS = re.findall(r"^apdist train (.*--loss.*)$", MANUAL, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_losses_of_the_manual_can_be_typed_and_computed(command: str) -> None:
    _, options = read_start(shlex.split(command))
    if "pml:" in command:
        pytest.importorskip("pytorch_metric_learning")
    config = override(options.config, {"training.batch_size": 16})
    loss = build_loss(config.loss, np.arange(4), 8)
    rows = unit_rows(16, 8, seed=0, dtype=torch.float32)
    assert torch.isfinite(loss(rows, torch.arange(16) // 4))


def test_the_manual_of_losses_names_each_with_its_options_and_defaults() -> None:
    table = MANUAL.partition("| `loss.kind` |")[2].partition("\n\n")[0]
    rows = {kind: row for row in table.splitlines() for kind in re.findall(r"`(\w+)`", row)}
    shared = {"cache_mib", "precision"}
    for kind, loss in LOSSES.items():
        for name, default in loss.defaults.items():
            spelt = name.replace("_", "-")
            assert f"`{spelt}`" in rows[kind], (kind, name)
            if name not in shared:
                found = re.search(rf"`{spelt}` \(([^),]*)", rows[kind])
                assert found, (kind, name)
                assert found[1] == shown(default)


def test_the_refusal_in_the_manual_is_the_one_that_is_shown() -> None:
    typed, expected = re.findall(r"^\$ apdist train (.*)\napdist: (.*)$", MANUAL, re.MULTILINE)[0]
    with pytest.raises(ValueError, match="margin") as refused:
        read_start(shlex.split(typed))
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"loss.kind": "pml:NoneLoss"}, "no loss 'NoneLoss'"),
        (
            {"loss.kind": "pml:VICRegLoss"},
            "VICRegLoss cannot be computed of descriptors and labels",
        ),
        (
            {"loss.kind": "pml:TripletMarginLoss", "loss.arguments": ["margn=1"]},
            r"no argument 'margn'; did you mean 'margin'\?; it is TripletMarginLoss\(margin=0.05",
        ),
    ],
)
def test_a_loss_that_cannot_be_built_is_refused_before_a_run_is_made(
    small_config: Config, loss: dict[str, object], message: str
) -> None:
    pytest.importorskip("pytorch_metric_learning")
    with pytest.raises(ValueError, match=message):
        new_run(override(small_config, loss), "test")
    assert not Path(small_config.run.output).exists()


@pytest.mark.filterwarnings("ignore")
def test_a_side_of_0_is_that_of_the_backbone(small_config: Config, tmp_path: Path) -> None:
    save_tiny("vit", tmp_path)
    save_preprocessor(tmp_path, crop_size=24)
    changes = {"data.image_size": 0, "model.backbone": f"hub:{tmp_path}"}
    assert with_own_side(override(small_config, changes)).data.image_size == 24
    assert with_own_side(small_config) == small_config
    with pytest.raises(ValueError, match="small is trained from nothing; give one"):
        with_own_side(override(small_config, {"data.image_size": 0}))


def test_a_folder_with_a_backbone_is_named_from_the_root(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for given, expected in (("mine", f"{tmp_path}/mine"), ("a/b", "a/b"), ("./no", "./no")):
        config = override(small_config, {"model.backbone": f"hub:{given}"})
        assert with_absolute_paths(config).model.backbone == f"hub:{expected}"
