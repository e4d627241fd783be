"""A run with a model, whose network is small and not trained."""

from pathlib import Path

import pytest
import torch

from apdist.config import Config, override
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel, load_model, save_model
from apdist.training.events import Ended
from apdist.training.run_folder.runs import Run, create_run

SIDE = 32


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made_run(tmp_path, {})


@pytest.fixture
def model(run: Run) -> TrainedModel:
    return load_model(run.uri)


def made_run(root: Path, options: dict[str, object]) -> Run:
    """A run at its end, of crops unless ``options`` say otherwise."""
    own = {
        "data.shards": str(root / "shards"),
        "data.image_size": SIDE,
        "model.dim": 8,
        "run.output": str(root),
        "run.name": "it",
    }
    found = create_run(override(Config(), own | options), "glyphs")
    torch.manual_seed(0)
    network = DescriptorNet(found.config.model)
    fit = network.fit(SIDE, found.config.evaluation.resize)
    model_id = save_model(network, network.state_dict(), fit, found.uri)
    found.add(Ended(step=240, model_id=model_id, weights="the last"))
    return found
