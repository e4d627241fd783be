"""Networks, losses and decoders that are refused before a run is made; the manual of losses."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from apdist.config import Config, override
from apdist.config.losses import LOSSES
from apdist.loss.building import build_loss
from apdist_verbs.start.model_check import check_model
from apdist_verbs.start.running import new_run
from apdist_verbs.start.start import read_start
from tests.config.test_losses import shown
from tests.places import ROOT
from tests.reference import unit_rows


def test_a_decoder_that_is_not_here_is_refused_before_pictures_are_prepared(
    small_config: Config,
) -> None:
    with pytest.raises(ValueError, match="data.decoder is pillow-0.1, and here is"):
        check_model(override(small_config, {"data.decoder": "pillow-0.1"}))


MANUAL = (ROOT / "docs" / "losses.md").read_text()


COMMANDS = re.findall(r"^apdist train (.*--loss.*)$", MANUAL, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_losses_of_the_manual_can_be_typed_and_computed(command: str) -> None:
    _, options = read_start(shlex.split(command))
    if "pml:" in command:
        pytest.importorskip("pytorch_metric_learning")
    config = override(options.config, {"training.batch_size": 16})
    loss = build_loss(config.loss, np.arange(4), 128)
    rows = unit_rows(16, 128, seed=0, dtype=torch.float32)
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
