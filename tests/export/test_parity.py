"""An export that does not agree with its run is refused."""

import numpy as np
import pytest

from apdist.export.parity import Parity, drawn_images, parity_of
from apdist.model.pretrained import TrainedModel


def test_what_does_not_agree_is_refused_and_nan_too(model: TrainedModel) -> None:
    files = drawn_images(2, 30)
    for wrong in (np.ones((1, 8), np.float32), np.full((1, 8), np.nan, np.float32)):
        with pytest.raises(ValueError, match="does not agree with the run: cosine .* on 2 drawn"):
            parity_of(lambda pixels, wrong=wrong: wrong, model, files, "drawn pictures")


def test_a_fixed_shape_is_what_both_get(model: TrainedModel) -> None:
    seen = []

    def exported(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return np.ones((1, 8), np.float32)

    with pytest.raises(ValueError, match="does not agree"):
        parity_of(exported, model, drawn_images(2, 30), "drawn pictures", (20, 50))
    assert seen == [(1, 20, 50, 3)] * 2


def test_it_is_told_in_a_line() -> None:
    parity = Parity(num_images=3, images="images of the split 'test'", of_pixels=1, of_files=0.99)
    expected = "least 1.000000 of the same pixels and 0.990000 of files, on 3 images of the split"
    assert expected in str(parity)
