"""Presets: options that are whole by themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from apdist.config import from_json, to_json
from apdist.model.descriptor import DescriptorNet
from apdist_verbs.presets import PRESETS, preset
from tests.tiny_models import KINDS, save_preprocessor, save_tiny

# Of the published models, but for their depth.
_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 1}
_BASE = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 1}
STRUCTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "dinov2_small": ("dinov2", {**_SMALL, "image_size": 518, "patch_size": 14}, "cls"),
    "dinov3_small": (
        "dinov3_vit",
        {**_SMALL, "image_size": 224, "patch_size": 16, "num_register_tokens": 4},
        "cls",
    ),
    "siglip2_base": (
        "siglip",
        {
            "vision_config": {**_BASE, "intermediate_size": 3072, "patch_size": 16},
            "text_config": KINDS["siglip"]["text_config"],
        },
        "attention",
    ),
}


def test_json_gives_back_every_preset() -> None:
    for name in PRESETS:
        assert from_json(to_json(preset(name))) == preset(name)


def test_an_unknown_preset_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ValueError, match="unknown preset 'glyph'; did you mean 'glyphs'"):
        preset("glyph")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_preset_describes_as_the_model_of_that_structure_pools(name: str, tmp_path: Path) -> None:
    from dataclasses import replace

    kind, structure, pooling = STRUCTURES[name]
    model = save_tiny(kind, tmp_path, **structure)
    save_preprocessor(tmp_path, crop_size=224, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    config = preset(name)
    network = DescriptorNet(replace(config.model, backbone=f"hub:{tmp_path}")).eval()
    assert network.pooling_name == pooling
    side = config.data.image_size
    assert (side, side % network.traits.stride) == (network.traits.side, 0)
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        pooled = getattr(model, "vision_model", model)(pixel_values=2 * images - 1).pooler_output
        found = network(images)
    torch.testing.assert_close(found, F.normalize(pooled, dim=1))
