"""Backbones alone are recognised by their parameters; the pooling is asked for."""

import pytest
import torch

from apdist.model.published.published import Given
from apdist.model.published.resnets import read_resnet
from tests import published_models as published

GEM = Given(pooling="gem")


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet101"])
def test_a_backbone_is_recognised_without_its_classifier(backbone: str) -> None:
    tensors = {
        name: torch.empty(shape) for name, shape in published.backbone_shapes(backbone).items()
    }
    model = read_resnet("F", tensors | {"fc.weight": torch.empty(1000, 1)}, GEM)
    assert (model.config.backbone, model.config.pooling, model.config.dim) == (backbone, "gem", 0)
    assert model.state["pooling.p"].tolist() == [3.0]
    assert set(model.state) == {"pooling.p", *(f"backbone.{name}" for name in tensors)}


def test_it_describes_with_the_weights_and_the_pooling_that_were_given() -> None:
    tensors = published.resnet_state()
    given = Given(pooling="mean", pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
    model = read_resnet("F", tensors, given)
    network = model.network()
    with torch.no_grad():
        images = published.images().float()
        maps = network.backbone(images)
        found = network(images)
    pooled = maps.mean(dim=(2, 3))
    torch.testing.assert_close(found, pooled / pooled.norm(dim=1, keepdim=True))
    assert torch.equal(network.backbone.conv1.weight, tensors["conv1.weight"])  # type: ignore[union-attr]
    assert read_resnet("F", tensors, Given(pooling="gem", gem_p=2.5)).config.gem_p == 2.5


def test_what_is_not_said_or_does_not_belong_there_is_refused() -> None:
    tensors = published.resnet_state()
    for given, message in (
        (
            Given(),
            "F is a resnet18 alone, .*; give --pooling gem .with --gem-p., max, mean or rmac",
        ),
        (Given(pooling="gem", backbone="resnet50"), "F is a resnet18; leave --backbone resnet50"),
        (Given(pooling="max", gem_p=3.0), "--gem-p belongs to --pooling gem"),
        (Given(pooling="gem", pixel_mean=(0.5,) * 3), "give --pixel-std"),
        (Given(pooling="gem", learned_on="x"), "leave --learned-on x out"),
    ):
        with pytest.raises(ValueError, match=message):
            read_resnet("F", tensors, given)


def test_another_network_is_told_by_what_differs_from_the_nearest() -> None:
    tensors = published.resnet_state()
    wide = tensors | {"layer1.0.conv1.weight": torch.empty(128, 64, 3, 3), "extra": torch.empty(1)}
    with pytest.raises(
        ValueError,
        match=r"F is none of .*; next to resnet18: 1 unexpected \(extra\); 1 of another shape "
        r"\(layer1.0.conv1.weight is \(128, 64, 3, 3\), not \(64, 64, 3, 3\)\)",
    ):
        read_resnet("F", wide, GEM)
    with pytest.raises(
        ValueError, match="holds no ResNet by torchvision's names, .* with f.weight"
    ):
        read_resnet("F", {"f.weight": torch.empty(1)}, GEM)
