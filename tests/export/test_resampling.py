"""Resampling by products of matrices is Pillow's, but for levels that lie between two."""

import numpy as np
import pytest
import torch
from PIL import Image

from apdist.config.training import Resize
from apdist.data.images import Fit, evaluation_image
from apdist.export.resampling import FILTERS, resampled, resampling_weights, scaled
from apdist.retrieval.recipe import at_scale
from tests.pictures import encoded

CPU = torch.device("cpu")
# Wide, smaller than what is made of them, and tall: Pillow takes rows of the last two first.
SIZES = [(37, 50), (20, 9), (100, 100), (300, 401), (64, 64), (214, 100), (300, 64)]


@pytest.mark.parametrize("resize", ["crop", "longest", "shrink"])
@pytest.mark.parametrize("interpolation", [*FILTERS, "nearest"])
def test_it_is_what_a_run_sees(interpolation: str, resize: Resize) -> None:
    fit = Fit(side=64, resize=resize, interpolation=interpolation, multiple=4)
    for height, width in SIZES:
        noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = evaluation_image(encoded(Image.fromarray(noise)), fit)
        found = resampled(torch.from_numpy(noise)[None], fit)[0].numpy()
        assert found.shape == expected.shape
        difference = np.abs(found - expected.astype(float))
        # Where the edge of a box falls on a centre, Pillow's own rounding decides.
        assert difference.max() <= (1 if interpolation != "box" else 128)
        assert (difference > 0).mean() < 0.06


def test_weights_that_need_no_rounding_are_exact() -> None:
    weights = resampling_weights(6, 4, 2, "box", CPU)
    assert weights.tolist() == [[0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0]]
    assert torch.equal(resampling_weights(5, 5, 5, "bicubic", CPU), torch.eye(5))


@pytest.mark.parametrize("scale", [0.3, 0.7071, 1.0, 1.4142, 2.0])
@pytest.mark.parametrize("multiple", [1, 8])
def test_scales_are_those_of_a_recipe(scale: float, multiple: int) -> None:
    images = torch.rand(2, 3, 37, 50)
    expected = at_scale(images, scale, multiple)
    torch.testing.assert_close(scaled(images, scale, multiple), expected, atol=3e-6, rtol=0)
