"""A worker gets ready: the network, its images, the checkpoint that it goes on from."""

import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from apdist.config import Config, override
from apdist.data.decoders import resolved
from apdist.model.pretrained import load_model
from apdist.training import loop, worker
from apdist.training.events import Event
from apdist.training.job import Job
from apdist.training.judging import Judge
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.step.collectives import Workers
from tests.pictures import write_small_set
from tests.tiny_models import save_tiny
from tests.trainings import StopAfter, gone_on, losses, trained
from tests.workers import on_workers


@pytest.mark.parametrize(("training", "evaluation"), [("bf16", "bf16"), ("bf16", "float32")])
def test_weights_travel_rounded_where_the_network_never_runs_in_float32(
    small_config: Config, training: str, evaluation: str
) -> None:
    precisions = {"training.precision": training, "evaluation.precision": evaluation}
    config = override(small_config, precisions)
    assert worker._is_always_bf16(config) == (evaluation == "bf16")


def refused_decoders(*names: str) -> list[str]:
    """What a worker says to each; the last one finds no OpenCV, to the end of its process."""
    workers, said = Workers(), []
    if workers.rank == workers.size - 1:
        sys.modules["cv2"] = None  # type: ignore[assignment]
    for name in names:
        with pytest.raises(ValueError, match=r"data\.decoder") as refused:
            worker.refuse_other_decoders(name, workers, torch.device("cpu"))
        said.append(str(refused.value))
    return said


def test_a_decoder_that_one_worker_lacks_is_refused_on_all() -> None:
    name = resolved("auto")
    first, second = on_workers(2, refused_decoders, name, "auto")
    assert first == second
    assert f": data.decoder is {name}, and here is pillow-" in first[0]
    assert "data.decoder auto is another one on each worker: pillow-" in first[1]


def test_a_training_with_another_decoder_does_not_begin(small_config: Config) -> None:
    config = override(small_config, {"data.decoder": "pillow-0.1"})
    with pytest.raises(ValueError, match=f"{socket.gethostname()}: data.decoder is pillow-0.1"):
        worker.train(Job(config, config.run.output), Mailbox[Event](), torch.device("cpu"))


def test_other_options_are_refused_when_a_run_goes_on(small_config: Config) -> None:
    run, _ = trained(small_config, "a", StopAfter(2))
    run.config = override(run.config, {"training.learning_rate": 1.0})
    with pytest.raises(ValueError, match="other data, model, loss or training options"):
        gone_on(run)


def test_other_images_are_refused_when_a_run_goes_on(small_config: Config, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    write_small_set(shards)
    config = override(small_config, {"data.shards": str(shards)})
    run, _ = trained(config, "a", StopAfter(2))
    first = shards.rename(tmp_path / "first")
    write_small_set(shards, num_classes=13)
    with pytest.raises(ValueError, match="training on other images; .* put it back, or start anew"):
        gone_on(run)
    shards.rename(tmp_path / "second")
    first.rename(shards)
    assert len(losses(gone_on(run))) == 3


@pytest.mark.filterwarnings("ignore")
def test_a_finished_run_needs_neither_the_hub_nor_the_folder_that_it_started_from(
    small_config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "vit"
    save_tiny("vit", folder)
    changes = {"model.backbone": f"hub:{folder}", "model.init": "whitening", "model.dim": 8}
    config = override(small_config, changes | {"training.steps": 1, "data.image_size": 16})
    run, _ = trained(config, "a")
    shutil.rmtree(folder)
    assert load_model(run.uri).network(torch.rand(1, 3, 24, 24)).shape == (1, 8)


def test_a_side_that_patches_do_not_fill_is_refused_on_the_workers_too(
    small_config: Config, tmp_path: Path
) -> None:
    save_tiny("vit", tmp_path)
    config = override(small_config, {"model.backbone": f"hub:{tmp_path}", "data.image_size": 20})
    with pytest.raises(ValueError, match="data.image_size 20 is no multiple of 8"):
        worker.train(Job(config, config.run.output), Mailbox[Event](), torch.device("cpu"))


def test_a_compiled_network_trains_the_same(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compile_(self, backend="aot_eager")
    )
    config = override(small_config, {"training.steps": 2, "evaluation.every_steps": 2})
    _, plain = trained(config, "a")
    run, compiled = trained(override(config, {"training.compile": True}), "b")
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
    assert load_model(run.uri).network(torch.rand(1, 3, 24, 24)).shape == (1, 16)


def test_a_training_that_goes_on_is_judged_with_what_came_before(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    class Noted(Judge):
        def __init__(self, config: Config, history: Sequence[HistoryEvent], watched: str) -> None:
            judged.append(len(history))
            super().__init__(config, history, watched)

    monkeypatch.setattr(loop, "Judge", Noted)
    run, _ = trained(small_config, "a", StopAfter(3))
    gone_on(run)
    assert judged[0] == 0
    assert judged[1] > 3
