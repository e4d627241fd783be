"""What the options of a step refuse."""

from typing import Any

import pytest

from apdist.loss.baselines import Contrastive
from apdist.training.step.options import StepOptions


@pytest.mark.parametrize("chunk_size", [0, -1, 2.5, True])
def test_a_chunk_has_a_whole_number_of_images(chunk_size: Any) -> None:
    with pytest.raises(ValueError, match="chunk_size must be a whole number of at least 1, got"):
        StepOptions(loss=Contrastive(), chunk_size=chunk_size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": Contrastive}, r"loss is the class Contrastive; make one of it: Contrastive\(\)"),
        ({"loss": "ap"}, "loss must be a function of .*, got 'ap'; use AveragePrecisionLoss"),
        ({"worker_sizes": "a"}, "worker_sizes must hold the images of each worker, got 'a'"),
    ],
)
def test_what_is_no_loss_or_size_is_refused_before_a_step(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepOptions(**{"loss": Contrastive(), "chunk_size": 2, **changes})
