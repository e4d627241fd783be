"""The network as a whole: unit length, gradients, norms, and what mode and autocast change."""

import pytest
import torch
import torch.nn.functional as F

from apdist.config import ModelConfig
from apdist.model.descriptor import DescriptorNet


@pytest.mark.parametrize("backbone", ["small", "resnet18", "efficientnet_lite0"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_descriptors_have_unit_length_and_every_parameter_gets_a_gradient(backbone: str) -> None:
    network = DescriptorNet(ModelConfig(backbone=backbone, dim=8))
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    descriptors = network(images)
    assert descriptors.shape == (3, 8)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(3))
    (descriptors * torch.randn(3, 8)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_bytes_and_floats_are_described_alike() -> None:
    network = DescriptorNet(ModelConfig(dim=8)).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(network(images), network(images.float() / 255))


def test_the_backbone_gets_pixels_less_their_mean_over_their_deviation() -> None:
    network = DescriptorNet(ModelConfig(backbone="resnet18", dim=8)).eval()
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    network(images)
    # Of ImageNet, as whoever trained the backbones of torchvision has them.
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(seen[0].contiguous(), (images / 255 - mean) / std)


def test_descriptors_leave_autocast_as_float32() -> None:
    network = DescriptorNet(ModelConfig(dim=8))
    with torch.autocast("cpu", torch.bfloat16):
        descriptors = network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert descriptors.dtype == torch.float32


def test_the_norm_before_the_linear_layer_is_there_only_when_asked() -> None:
    torch.manual_seed(0)
    plain = DescriptorNet(ModelConfig(dim=8)).eval()
    normed = DescriptorNet(ModelConfig(dim=8, norm_before_linear=True)).eval()
    normed.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(plain(images), normed(images))


def test_without_a_linear_layer_the_descriptor_is_what_was_pooled() -> None:
    network = DescriptorNet(ModelConfig(dim=0)).eval()
    images = torch.rand(2, 3, 32, 32)
    pooled = network(images, before_linear=True)
    assert pooled.shape == (2, network.traits.num_channels)
    torch.testing.assert_close(network(images), F.normalize(pooled, dim=1))


def test_what_comes_before_the_linear_layer_is_what_it_gets() -> None:
    network = DescriptorNet(ModelConfig(dim=8, norm_before_linear=True)).eval()
    images = torch.rand(2, 3, 32, 32)
    pooled = network(images, before_linear=True)
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(network(images), F.normalize(network.linear(pooled), dim=1))


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    network = DescriptorNet(ModelConfig(backbone="resnet18", dim=8)).train()
    before = network.backbone.bn1.running_mean.clone()  # type: ignore[union-attr]
    network(torch.rand(2, 3, 32, 32))
    assert torch.equal(before, network.backbone.bn1.running_mean)  # type: ignore[union-attr]
    chunked = DescriptorNet(ModelConfig(backbone="resnet18", dim=8, batch_norm="chunk")).train()
    chunked(torch.rand(2, 3, 32, 32))
    assert not torch.equal(before, chunked.backbone.bn1.running_mean)  # type: ignore[union-attr]
