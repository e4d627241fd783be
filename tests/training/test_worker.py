"""A worker gets ready: the network, its images, the checkpoint that it goes on from."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from apdist.config import Config, override
from apdist.model.pretrained import load_model
from apdist.training import loop, worker
from apdist.training.judging import Judge
from apdist.training.run_folder.history import Kept
from tests.pictures import write_small_set
from tests.training.test_loop import StopAfter, gone_on, losses, trained


@pytest.mark.parametrize(("training", "evaluation"), [("bf16", "bf16"), ("bf16", "float32")])
def test_weights_travel_rounded_where_the_network_never_runs_in_float32(
    small_config: Config, training: str, evaluation: str
) -> None:
    precisions = {"training.precision": training, "evaluation.precision": evaluation}
    config = override(small_config, precisions)
    assert worker._is_always_bf16(config) == (evaluation == "bf16")


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
        def __init__(self, config: Config, history: Sequence[Kept]) -> None:
            judged.append(len(history))
            super().__init__(config, history)

    monkeypatch.setattr(loop, "Judge", Noted)
    run, _ = trained(small_config, "a", StopAfter(3))
    gone_on(run)
    assert judged[0] == 0
    assert judged[1] > 3
