"""What the options of the network and the loss refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.backbone": "resnet51"}, "model.backbone must be one of small, "),
        ({"model.dim": 1}, "model.dim must be at least 2"),
        ({"model.gem_p": 0.0}, "model.gem_p must be positive"),
        ({"loss.kind": "tripel"}, "did you mean 'triplet'"),
        ({"loss.num_bins": 1}, "at least 2, got 1"),
        ({"loss.cache_mib": -1}, "loss.cache_mib must be at least 0"),
        ({"loss.min_score": 1.0}, "must be below"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


@pytest.mark.parametrize(
    "change", [{"model.backbone": "hub:org/name"}, {"loss.kind": "pml:CircleLoss"}]
)
def test_names_of_other_packages_are_left_to_them(change: dict[str, object]) -> None:
    override(Config(), change)
