"""Backbones: those with torchvision's names, those of the hub, and names that are none."""

from pathlib import Path

import pytest
import torch

from apdist.config import ModelConfig
from apdist.config.model import BACKBONES
from apdist.model.backbones import _BUILDERS, build_backbone
from apdist.model.descriptor import DescriptorNet


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
    with pytest.raises(ValueError, match="neither a folder nor a vision model"):
        build_backbone(f"hub:{tmp_path}/nothing")
