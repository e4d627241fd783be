"""The graph does what a run does with its recipe."""

import numpy as np
import pytest
import torch

from apdist.export.graph import PixelsToDescriptors
from apdist.export.parity import drawn_images, parity_of
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel
from apdist.model.whitening import Whitening
from apdist.retrieval.recipe import Recipe

WHITENING = Whitening(mean=torch.rand(8), projection=torch.rand(5, 8))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(size=40),
        Recipe(scales=(1.0, 0.5), scale_power=2.0),
        Recipe(scales=(0.7071, 1.4142), whitening=WHITENING),
        Recipe(whitening=WHITENING, dim=3),
        Recipe(dim=4),
    ],
    ids=["plain", "size", "scales", "whitened", "whitened and cut", "cut"],
)
def test_descriptors_are_those_of_the_run(model: TrainedModel, recipe: Recipe) -> None:
    network = model.network
    assert isinstance(network, DescriptorNet)
    fit = recipe.fit(model.fit)
    graph = PixelsToDescriptors(network, fit, recipe).eval()
    whole = TrainedModel(network=recipe.of(network).eval(), fit=fit, model_id="it")

    def described(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return graph(torch.tensor(pixels)).numpy()

    parity = parity_of(described, whole, drawn_images(3, 30), "drawn pictures")
    assert parity.of_pixels > 0.9999
