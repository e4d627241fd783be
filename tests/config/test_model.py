"""What the options of the network refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.backbone": "resnet51"}, "model.backbone must be one of small, "),
        ({"model.dim": 1}, "model.dim must lie in .2, 65536."),
        ({"model.gem_p": 0.0}, "model.gem_p must lie in"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


def test_a_name_of_the_hub_is_left_to_it() -> None:
    assert override(Config(), {"model.backbone": "hub:a/b"}).model.backbone == "hub:a/b"
