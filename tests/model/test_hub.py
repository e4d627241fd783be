"""Backbones of transformers: what they give is what transformers gives, and needs no hub later."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.model import hub
from apdist.model.backbones import build_backbone
from apdist.model.descriptor import DescriptorNet
from apdist.model.hub import HubBackbone, from_hub
from apdist.model.pretrained import load_model, save_model
from tests.tiny_models import KINDS, PREPROCESSOR, SIDE, save_preprocessor, save_tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

AUTO = {
    **dict.fromkeys(["vit", "deit", "dinov2", "dinov2_with_registers"], "cls"),
    **dict.fromkeys(["dinov3_vit", "dinov3_convnext", "clip"], "cls"),
    **dict.fromkeys(["beit", "swin", "convnext"], "mean"),
    "siglip": "attention",
    "resnet": "gem",
}


def expected_tokens(kind: str, model: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Class token, patches and pooled output of transformers' own model."""
    model = getattr(model, "vision_model", model)
    options = {} if kind.startswith("dino") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        output = model(pixel_values=images, **options)
    before = {"siglip": 0, "deit": 2, "dinov2_with_registers": 4, "dinov3_vit": 5}.get(kind, 1)
    hidden = output.last_hidden_state
    if kind == "clip":
        hidden = model.post_layernorm(hidden)
    return hidden[:, 0], hidden[:, before:], output.pooler_output


@pytest.mark.parametrize("size", [(SIDE, SIDE), (40, 24)])
@pytest.mark.parametrize(
    "kind", ["vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "siglip", "clip"]
)
def test_a_transformer_gives_the_tokens_of_its_own_code(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = save_tiny(kind, tmp_path)
    images = torch.randn(2, 3, *size)
    found = from_hub(str(tmp_path)).eval()(images)
    cls, patches, pooled = expected_tokens(kind, model, images)
    rows = size[0] // 8
    assert found.maps.shape == (2, 16, rows, size[1] // 8)
    torch.testing.assert_close(found.maps[:, :, 1, 0], patches[:, size[1] // 8])
    torch.testing.assert_close(found.maps.flatten(2).transpose(1, 2), patches)
    if kind == "siglip":
        assert found.cls is None
        torch.testing.assert_close(found.attended, pooled)
    else:
        assert found.attended is None
        torch.testing.assert_close(found.cls, cls)
    if kind in ("dinov2", "dinov3_vit", "clip"):  # what these call pooled is the class token
        torch.testing.assert_close(found.cls, pooled)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_takes_what_a_model_was_made_for_and_all_that_is_left_is_trained(
    kind: str, tmp_path: Path
) -> None:
    save_tiny(kind, tmp_path)
    network = DescriptorNet(ModelConfig(backbone=f"hub:{tmp_path}", dim=8)).train()
    assert network.pooling_name == AUTO[kind]
    assert network.traits.is_signed == (kind != "resnet")
    descriptors = network(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(2))
    (descriptors * torch.randn(2, 8)).sum().backward()
    idle = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


@pytest.mark.parametrize(
    ("kind", "pooling", "width"),
    [("siglip", "mean", 16), ("dinov2", "cls+mean", 32), ("vit", "rmac", 16), ("clip", "max", 16)],
)
def test_other_poolings_leave_no_idle_weights(
    kind: str, pooling: str, width: int, tmp_path: Path
) -> None:
    save_tiny(kind, tmp_path)
    options: dict[str, Any] = {"backbone": f"hub:{tmp_path}", "pooling": pooling, "dim": 0}
    network = DescriptorNet(ModelConfig(**options))
    descriptors = network(torch.rand(2, 3, 16, 16))
    assert descriptors.shape == (2, width)
    (descriptors * torch.randn(2, width)).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", ["siglip", "dinov3_vit", "resnet"])
@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_a_saved_model_is_loaded_without_the_hub_and_without_its_folder(
    kind: str, pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    save_tiny(kind, source)
    save_preprocessor(source)
    options: dict[str, Any] = {"backbone": f"hub:{source}", "pooling": pooling, "dim": 8}
    network = DescriptorNet(ModelConfig(**options)).eval()
    save_model(network, network.state_dict(), network.fit(SIDE, "crop"), str(tmp_path))
    shutil.rmtree(source)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    again = load_model(str(tmp_path))
    images = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(network(images), again.network(images))
    assert again.network.traits == network.traits
    assert again.fit.interpolation == "bilinear"
    torch.testing.assert_close(again.network.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(again.network.std.flatten(), torch.tensor([0.4, 0.5, 0.6]))


def test_pixels_reach_the_model_as_its_own_file_says(tmp_path: Path) -> None:
    model = save_tiny("dinov2", tmp_path)
    save_preprocessor(tmp_path)
    network = DescriptorNet(ModelConfig(backbone=f"hub:{tmp_path}", dim=0)).eval()
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    mean, std = (
        torch.tensor(PREPROCESSOR[key]).view(3, 1, 1) for key in ("image_mean", "image_std")
    )
    with torch.no_grad():
        cls = model(pixel_values=(images / 255 - mean) / std).pooler_output
        found = network(images)
    torch.testing.assert_close(found, torch.nn.functional.normalize(cls, dim=1))
    assert (network.traits.side, network.traits.stride) == (SIDE, 8)


def test_weights_of_half_precision_are_trained_in_full(tmp_path: Path) -> None:
    model = save_tiny("vit", tmp_path)
    model.half().save_pretrained(tmp_path)
    backbone, _ = build_backbone(f"hub:{tmp_path}")
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_a_side_that_patches_do_not_fill_is_refused_with_the_two_nearest(tmp_path: Path) -> None:
    save_tiny("vit", tmp_path)
    backbone = from_hub(str(tmp_path))
    with pytest.raises(ValueError, match="20 is no multiple of 8, .* the nearest are 16 and 24; "):
        backbone(torch.rand(1, 3, 16, 20))


def test_a_model_that_hides_patches_is_refused(tmp_path: Path) -> None:
    KINDS["vit_mae"] = KINDS["vit"]
    save_tiny("vit_mae", tmp_path)
    del KINDS["vit_mae"]
    with pytest.raises(ValueError, match=r"gives no features of an image of 16 x 16 .*tokens"):
        from_hub(str(tmp_path))


def test_weights_that_a_file_lacks_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_tiny("vit", tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state["layernorm.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of its weights, the first layernorm\.weight"):
        from_hub(str(tmp_path))


def test_a_model_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="neither a folder nor a vision model .* no such folder"):
        build_backbone(f"hub:{tmp_path}/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="neither a folder nor a vision model"):
        build_backbone(f"hub:{tmp_path}/empty")


def test_a_gated_model_is_refused_with_where_to_ask() -> None:
    error = OSError("You are trying to access a gated repo.\nMake sure to have access to it")
    told = str(hub._refusal("facebook/dinov3-vits16", error))
    assert "accept its terms at https://huggingface.co/facebook/dinov3-vits16, then log" in told
    assert "\n" not in told


def test_the_description_is_plain_json(tmp_path: Path) -> None:
    import json

    save_tiny("vit", tmp_path)
    backbone = from_hub(str(tmp_path))
    told = json.loads(json.dumps(backbone.description()))
    assert isinstance(hub.from_description("x", told), HubBackbone)
