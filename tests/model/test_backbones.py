"""Backbones of our own: those with torchvision's names, and what each says of itself."""

import pytest
import torch

from apdist.config.model import BACKBONES
from apdist.model.backbones import _BUILDERS, build_backbone


@pytest.mark.parametrize(
    ("depth", "num_parameters", "some_names"),
    [
        # Parameters of torchvision's models without their classifier.
        ("resnet18", 11_176_512, ["layer1.0.conv1.weight", "layer2.0.downsample.0.weight"]),
        ("resnet50", 23_508_032, ["layer1.0.conv3.weight", "layer4.2.bn3.running_var"]),
        ("resnet101", 42_500_160, ["layer3.22.conv2.weight"]),
    ],
)
def test_resnets_have_the_parameters_of_the_official_ones(
    depth: str, num_parameters: int, some_names: list[str]
) -> None:
    network, _ = build_backbone(depth)
    assert sum(p.numel() for p in network.parameters()) == num_parameters
    assert set(some_names) <= set(network.state_dict())


def test_every_name_that_the_options_admit_is_built() -> None:
    assert set(_BUILDERS) == set(BACKBONES)


@pytest.mark.parametrize("name", ["small", "resnet18", "efficientnet_lite0"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_features_are_as_many_as_told_and_never_negative(name: str) -> None:
    network, traits = build_backbone(name)
    with torch.no_grad():
        maps = network.eval()(torch.randn(1, 3, 64, 64))
    assert maps.shape[1] == traits.num_channels
    assert maps.min() >= 0
    assert not traits.is_signed
