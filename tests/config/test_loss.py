"""What the options of the loss refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss.kind": "tripel"}, "did you mean 'triplet'"),
        ({"loss.num_bins": 1}, "at least 2, got 1"),
        ({"loss.cache_mib": -1}, "loss.cache_mib must be at least 0"),
        ({"loss.min_score": 1.0}, "must be below"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


def test_a_loss_of_pytorch_metric_learning_is_left_to_it() -> None:
    assert override(Config(), {"loss.kind": "pml:CircleLoss"}).loss.kind == "pml:CircleLoss"
