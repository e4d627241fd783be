"""What the options of the network refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.backbone": "resnet51"}, "model.backbone must be one of small, "),
        ({"model.dim": 1}, "model.dim must lie in .2, 65536."),
        ({"model.gem_p": 0.0}, "model.gem_p must lie in"),
        ({"model.backbone": "resnet51"}, "did you mean 'resnet50'"),
        ({"model.pooling": "avg"}, "model.pooling must be one of auto, gem, mean, max, cls, "),
        ({"model.pooling": "cls"}, "model.pooling cls needs a transformer, and small is conv"),
        ({"model.gem_per_channel": True, "model.pooling": "max"}, "gem_per_channel belongs to GeM"),
        ({"model.init": "pca", "model.dim": 0}, "with model.dim 0 there is none"),
        ({"model.centre_bias": -1.0}, "model.centre_bias must lie in"),
        ({"model.norm_eps": 0.1}, "model.norm_eps must lie in"),
        ({"model.pixel_mean": (0.5, 0.5)}, "model.pixel_mean must be three numbers in .0, 1."),
        ({"model.pixel_mean": (104.0, 117.0, 123.0)}, "divide what is meant for pixels up to 255"),
        ({"model.pixel_std": (0.2, 0.2, 0.0)}, "none of them 0; got 0.2 0.2 0.0"),
        ({"model.init_images": 3}, "model.init_images must be at least 4"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


def test_a_name_of_the_hub_is_left_to_it() -> None:
    assert override(Config(), {"model.backbone": "hub:a/b"}).model.backbone == "hub:a/b"
