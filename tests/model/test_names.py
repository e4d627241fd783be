"""Parts of a network by pattern of names."""

import pytest

from apdist.model.names import fits, is_adapter, plain_name, refuse_unknown

NAMES = ["backbone.layer1.0.conv1.weight", "backbone.bn1.bias", "pooling.p", "linear.weight"]


@pytest.mark.parametrize(
    ("pattern", "number"),
    [("backbone.*", 2), ("backbone", 2), ("*.bias", 1), ("linear", 1), ("*", 4), ("back", 0)],
)
def test_a_pattern_means_names_and_the_name_of_a_part_all_that_is_in_it(
    pattern: str, number: int
) -> None:
    assert sum(fits(pattern, name) for name in NAMES) == number


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("backbon.*", "nothing in the network is named 'backbon.*'; did you mean 'backbone.*'?"),
        ("backbone.layer2.*", "did you mean 'backbone.layer1.*'?"),
        ("*.biass", "did you mean '*.bias'?"),
        ("linaer", "did you mean 'linear.*'?"),
        ("x", "; its names begin with backbone, linear, pooling"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused_with_the_closest_name(
    pattern: str, message: str
) -> None:
    with pytest.raises(ValueError, match=r"^training\.freeze: ") as refused:
        refuse_unknown("training.freeze", ["pooling", pattern], NAMES)
    assert str(refused.value).endswith(message)


def test_a_layer_with_an_adapter_keeps_its_name() -> None:
    assert plain_name("backbone.conv1.base_layer.weight") == "backbone.conv1.weight"
    assert is_adapter("backbone.conv1.lora_A.default.weight")
    assert not is_adapter("backbone.conv1.base_layer.weight")
