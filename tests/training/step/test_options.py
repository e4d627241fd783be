"""What the options of a step refuse."""

from typing import Any

import pytest

from apdist.loss.baselines import Contrastive
from apdist.training.step.options import StepOptions


@pytest.mark.parametrize("chunk_size", [0, -1, 2.5])
def test_a_chunk_has_a_whole_number_of_images(chunk_size: Any) -> None:
    with pytest.raises(ValueError, match="chunk_size must be a whole number of at least 1, got"):
        StepOptions(loss=Contrastive(), chunk_size=chunk_size)
