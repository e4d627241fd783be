from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from apdist.config import ModelConfig
from apdist.model.backbones import BasicBlock, ResNet, build_backbone
from apdist.model.descriptor import DescriptorNet
from apdist.model.pooling import GeM
from apdist.model.pretrained import build_model, load_model, read_weights, save_model


def test_gem_with_p_1_is_the_mean() -> None:
    x = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeM(p=1.0)(x), x.mean(dim=(-2, -1)))


def test_gem_with_a_large_p_is_the_maximum() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64) + 0.5
    pooled = GeM(p=300.0)(x)
    torch.testing.assert_close(pooled, x.amax(dim=(-2, -1)), rtol=2e-2, atol=0)


def test_gem_of_the_published_code() -> None:
    # Revaud et al.'s GeM (dirtorch), p = 3, on 0.1, 0.2, ..., 0.6 per channel, by hand:
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64).view(1, 1, 2, 3)
    expected = ((0.001 + 0.008 + 0.027 + 0.064 + 0.125 + 0.216) / 6) ** (1 / 3)
    assert GeM(p=3.0)(x).item() == pytest.approx(expected, rel=1e-6)


def test_gem_does_not_overflow_in_half_precision() -> None:
    assert GeM(p=3.0)(torch.full((1, 1, 2, 2), 100.0, dtype=torch.float16)).isfinite().all()


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


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    network = DescriptorNet(ModelConfig(backbone="resnet18", dim=8)).train()
    before = network.backbone.bn1.running_mean.clone()  # type: ignore[union-attr]
    network(torch.rand(2, 3, 32, 32))
    assert torch.equal(before, network.backbone.bn1.running_mean)  # type: ignore[union-attr]
    chunked = DescriptorNet(ModelConfig(backbone="resnet18", dim=8, batch_norm="chunk")).train()
    chunked(torch.rand(2, 3, 32, 32))
    assert not torch.equal(before, chunked.backbone.bn1.running_mean)  # type: ignore[union-attr]


def test_a_saved_model_describes_as_before(tmp_path: Path) -> None:
    network = DescriptorNet(ModelConfig(dim=8)).eval()
    model_id = save_model(network.config, network.state_dict(), 32, str(tmp_path))
    again = load_model(str(tmp_path))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network(images), again.network(images))
    assert (again.model_id, again.image_size) == (model_id, 32)


def test_other_weights_have_another_id(tmp_path: Path) -> None:
    network = DescriptorNet(ModelConfig(dim=8))
    first = save_model(network.config, network.state_dict(), 32, str(tmp_path))
    with torch.no_grad():
        network.linear.bias += 1e-3
    assert save_model(network.config, network.state_dict(), 32, str(tmp_path)) != first


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    network = DescriptorNet(ModelConfig(dim=8))
    save_model(network.config, network.state_dict(), 32, str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged"):
        load_model(str(tmp_path))
    with pytest.raises(ValueError, match="no trained model"):
        load_model(str(tmp_path / "elsewhere"))


def test_official_weights_load_without_their_classifier(tmp_path: Path) -> None:
    official = ResNet(BasicBlock, (2, 2, 2, 2)).state_dict() | {"fc.weight": torch.zeros(1000, 512)}
    path = tmp_path / "resnet18.pth"
    torch.save(official, path)
    config = ModelConfig(backbone="resnet18", dim=8, weights=str(path))
    network = build_model(config)
    assert torch.equal(network.backbone.conv1.weight, official["conv1.weight"])  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="does not fit model.backbone resnet50"):
        build_model(replace(config, backbone="resnet50"))


def test_a_pickle_that_is_more_than_tensors_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"w": nn.Linear(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="no torch file of plain tensors"):
        read_weights(str(tmp_path / "model.pth"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"module.w": torch.ones(2)}, tmp_path / "w.safetensors")
    assert torch.equal(read_weights(str(tmp_path / "w.safetensors"))["w"], torch.ones(2))


def test_an_unknown_backbone_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="one of small, resnet18"):
        ModelConfig(backbone="vgg")


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_a_model_of_the_hub_gives_the_features_of_its_patches(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    backbone, num_channels = build_backbone(f"hub:{tmp_path}")
    images = torch.rand(2, 3, 40, 24)  # another size than it was made for
    features = backbone(images)
    assert (num_channels, features.shape) == (16, (2, 16, 5, 3))
    network = DescriptorNet(ModelConfig(backbone=f"hub:{tmp_path}", dim=8))
    torch.testing.assert_close(network(images).norm(dim=1), torch.ones(2))


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="neither a folder nor a model"):
        build_backbone(f"hub:{tmp_path}/nothing")
