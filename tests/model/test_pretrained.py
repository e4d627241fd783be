"""Weights from files, and models that are saved and loaded again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from apdist.config import ModelConfig
from apdist.data.images import Fit
from apdist.model.backbones import BasicBlock, ResNet
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import build_model, load_model, read_weights, save_model

FIT = Fit(side=32, resize="longest")


def test_a_saved_model_describes_as_before(tmp_path: Path) -> None:
    network = DescriptorNet(ModelConfig(dim=8)).eval()
    model_id = save_model(network, network.state_dict(), FIT, str(tmp_path))
    again = load_model(str(tmp_path))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network(images), again.network(images))
    assert (again.model_id, again.fit) == (model_id, FIT)


def test_other_weights_have_another_id(tmp_path: Path) -> None:
    network = DescriptorNet(ModelConfig(dim=8))
    first = save_model(network, network.state_dict(), FIT, str(tmp_path))
    with torch.no_grad():
        network.linear.bias += 1e-3
    assert save_model(network, network.state_dict(), FIT, str(tmp_path)) != first


@pytest.mark.parametrize(
    "options",
    [{"dim": 0}, {"gem_per_channel": True}, {"pooling": "rmac"}, {"pooling": "max", "dim": 0}],
)
def test_a_saved_model_pools_as_before(tmp_path: Path, options: dict[str, Any]) -> None:
    network = DescriptorNet(ModelConfig(**{"dim": 8, **options})).eval()
    save_model(network, network.state_dict(), FIT, str(tmp_path))
    images = torch.rand(2, 3, 48, 32)
    assert torch.equal(network(images), load_model(str(tmp_path)).network(images))
    told = json.loads((tmp_path / "model.json").read_text())["model"]["pooling"]
    assert told == options.get("pooling", "gem")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    network = DescriptorNet(ModelConfig(dim=8))
    save_model(network, network.state_dict(), FIT, str(tmp_path))
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


def test_a_training_starts_with_the_whole_model_of_a_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"gem_per_channel": True, "norm_eps": 1e-6, "local_whitening": True}
    network = DescriptorNet(ModelConfig(dim=8, pixel_mean=(0.1, 0.2, 0.3), **options)).eval()
    save_model(network, network.state_dict(), FIT, str(tmp_path))
    weights = str(tmp_path / "model.safetensors")
    again = build_model(replace(network.config, weights=weights)).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network(images), again(images))
    alone = build_model(
        replace(network.config, weights=weights, dim=0, gem_per_channel=False, pooling="max")
    )
    for name, value in alone.backbone.state_dict().items():
        assert torch.equal(value, network.backbone.state_dict()[name])
    with pytest.raises(ValueError, match=r"another shape \['linear.bias', 'linear.weight'\]; use"):
        build_model(replace(network.config, weights=weights, dim=16))


@pytest.mark.parametrize("option", ["pixel_mean", "pixel_std"])
def test_pixels_are_normalised_as_the_options_say(option: str) -> None:
    values = (0.2, 0.3, 0.4)
    network = DescriptorNet(ModelConfig(dim=0, **{option: values})).eval()  # type: ignore[arg-type]
    images = torch.rand(2, 3, 32, 32)
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(images)
    mean, std = (
        torch.tensor(values if option == name else (0.5,) * 3).view(3, 1, 1)
        for name in ("pixel_mean", "pixel_std")
    )
    torch.testing.assert_close(seen[0], (images - mean) / std)


def test_a_pickle_that_is_more_than_tensors_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"w": nn.Linear(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="expected a state dict, as .safetensors or as .pth of"):
        read_weights(str(tmp_path / "model.pth"))


def test_weights_are_found_in_a_checkpoint_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": {"module.w": torch.ones(2), "step": 4}}, path)
    found = read_weights(str(path))
    assert [*found] == ["w"]
    assert torch.equal(found["w"], torch.ones(2))
    torch.save([torch.ones(2)], path)
    with pytest.raises(ValueError, match=r"holds a list, no parameters by name; save state_dict"):
        read_weights(str(path))


def test_a_linear_layer_that_is_not_learned_may_have_any_size() -> None:
    assert build_model(ModelConfig(dim=500)).dim == 500
    with pytest.raises(ValueError, match="model.init pca gives at most the .* got model.dim 500"):
        build_model(ModelConfig(dim=500, init="pca"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"module.w": torch.ones(2)}, tmp_path / "w.safetensors")
    assert torch.equal(read_weights(str(tmp_path / "w.safetensors"))["w"], torch.ones(2))


def test_a_folder_with_the_files_of_two_models_is_refused_with_both_names(tmp_path: Path) -> None:
    ids = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = DescriptorNet(ModelConfig(dim=8))
        ids.append(save_model(network, network.state_dict(), FIT, str(tmp_path / str(seed))))
    (tmp_path / "2" / "model.json").replace(tmp_path / "1" / "model.json")
    with pytest.raises(ValueError, match=f"mixes two models: .* describes {ids[1]}, .* {ids[0]}"):
        load_model(str(tmp_path / "1"))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04rubbish", b"\x80\x02K\x01.", b"\x80\x02]q\x00.", b"hello\n"]
)
def test_a_file_that_holds_no_weights_is_refused_in_one_line(
    tmp_path: Path, content: bytes
) -> None:
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} holds (no weights|a )") as refused:
            read_weights(str(tmp_path / name))
        assert "weights_only" not in str(refused.value)
