"""Which parameters learn at which rate, and which have weight decay."""

from pathlib import Path

import pytest
import torch
from torch import nn

from apdist.config import Config, ModelConfig, TrainingConfig
from apdist.model.descriptor import DescriptorNet
from apdist.training.learning.parameter_groups import depths, parameter_groups, rate_factors


def network(backbone: str) -> DescriptorNet:
    return DescriptorNet(ModelConfig(backbone=backbone, dim=8))


def saved_vit(folder: Path) -> str:
    """The name of a vision transformer of three blocks."""
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=32, image_size=32, patch_size=8)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return f"hub:{folder}"


def named_depths(net: nn.Module) -> dict[str, int]:
    return {name.removeprefix("backbone."): depth for name, depth in depths(net).items()}


def test_depth_counts_the_blocks_of_a_resnet_from_the_top() -> None:
    found = named_depths(network("resnet18"))
    assert (found["linear.weight"], found["pooling.p"], found["conv1.weight"]) == (0, 0, 9)
    assert [found[f"layer{1 + k // 2}.{k % 2}.bn2.bias"] for k in range(8)] == list(range(8, 0, -1))
    assert found["layer2.0.downsample.0.weight"] == found["layer2.0.conv1.weight"]


def test_depth_counts_the_blocks_of_an_efficientnet() -> None:
    found = named_depths(network("efficientnet_lite0"))
    assert found["net._conv_stem.weight"] == found["net._bn0.bias"] == 17
    blocks = [found[f"net._blocks.{k}._project_conv.weight"] for k in range(16)]
    assert blocks == list(range(16, 0, -1))
    assert found["net._conv_head.weight"] == found["net._bn1.weight"] == 0


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_depth_counts_the_blocks_of_a_transformer(tmp_path: Path) -> None:
    found = depths(network(saved_vit(tmp_path)))
    assert {depth for name, depth in found.items() if "embeddings" in name} == {4}
    numbers = {name: depth for name, depth in found.items() if ".weight" in name and depth}
    blocks = [
        {depth for name, depth in numbers.items() if f".{number}." in name} for number in range(3)
    ]
    assert blocks == [{3}, {2}, {1}]
    assert found["backbone.net.layernorm.weight"] == found["linear.weight"] == 0


def test_a_norm_in_a_list_by_itself_belongs_to_the_layer_before_it() -> None:
    found = named_depths(network("small"))
    layers = [found[f"layers.{k}.weight"] for k in (0, 1, 3, 4, 6, 7, 9, 10)]
    assert layers == [4, 4, 3, 3, 2, 2, 1, 1]


def test_rates_are_those_of_depth_times_that_of_the_last_pattern_that_fits() -> None:
    options = TrainingConfig(
        layer_decay=0.5, rates=("backbone.*=0.1", "backbone.layer4=3", "linear=2")
    )
    found = rate_factors(network("resnet18"), options)
    assert found["backbone.layer4.1.conv1.weight"] == 3 * 0.5
    assert found["backbone.conv1.weight"] == pytest.approx(0.1 * 0.5**9)
    assert (found["linear.bias"], found["pooling.p"]) == (2.0, 1.0)
    with pytest.raises(ValueError, match=r"training.rates: nothing .* did you mean 'linear.\*'"):
        rate_factors(network("small"), TrainingConfig(rates=("linera=2",)))


def test_norms_biases_and_the_exponent_of_gem_have_no_weight_decay() -> None:
    net = network("resnet18")
    groups = parameter_groups(net, TrainingConfig(weight_decay=0.25))
    decays = {id(p): group.weight_decay for group in groups for p in group.parameters}
    for name, parameter in net.named_parameters():
        is_plain = "bn" not in name and "downsample.1" not in name and name.endswith("weight")
        assert decays[id(parameter)] == 0.25 * is_plain, name
    (group,) = parameter_groups(net, TrainingConfig(weight_decay=0.25, decay_norms=True))
    assert (len(group.parameters), group.weight_decay) == (len(decays), 0.25)


def test_what_is_not_trained_is_in_no_group() -> None:
    net = network("small")
    net.backbone.requires_grad_(False)
    groups = parameter_groups(net, Config().training)
    assert sum(len(group.parameters) for group in groups) == 3
    assert torch.equal(groups[0].parameters[0], net.pooling.p)
