"""Small models of transformers with random weights, in folders as `save_pretrained` writes them."""

import json
from pathlib import Path
from typing import Any

import torch

SIDE = 16
_VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}
_STAGES = {"hidden_sizes": [4, 8, 8, 16], "depths": [1, 1, 1, 1]}
_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_BOTH = {"vision_config": _VISION, "text_config": _TEXT}
KINDS: dict[str, dict[str, Any]] = {
    "vit": _VISION,
    "deit": _VISION,
    "beit": _VISION,
    "dinov2": _VISION,
    "dinov2_with_registers": {**_VISION, "num_register_tokens": 3},
    "dinov3_vit": {**_VISION, "num_register_tokens": 4},
    "dinov3_convnext": _STAGES,
    "siglip": _BOTH,
    "clip": _BOTH,
    "swin": {
        "image_size": SIDE,
        "patch_size": 2,
        "embed_dim": 8,
        "window_size": 4,
        "depths": [1, 1],
        "num_heads": [1, 2],
    },
    "convnext": _STAGES,
    "resnet": {**_STAGES, "embedding_size": 4, "layer_type": "basic"},
}
PREPROCESSOR = {
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "size": {"shortest_edge": 20},
    "resample": 2,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}


def save_tiny(kind: str, folder: Path, **changes: Any) -> Any:
    """Write a model of that ``kind`` under ``folder``; returns it, for comparison."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **{**KINDS[kind], **changes}))
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases that do something
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model.eval()


def save_preprocessor(folder: Path, **changes: Any) -> None:
    """Write how the model's pixels are made."""
    told = {**PREPROCESSOR, **changes}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
