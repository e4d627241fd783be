"""Backbones alone: a ResNet's parameters by torchvision's names, with or without its classifier."""

from collections.abc import Mapping

import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.model.backbones import build_backbone
from apdist.model.published.published import (
    RESNETS,
    Given,
    Published,
    differences,
    fitted,
    pixels_of,
    refuse_told,
)

_KIND = "backbone with torchvision's names"
_CLASSIFIER = "fc."
_DEFAULT_P = 3.0


def read_resnet(name: str, tensors: Mapping[str, Tensor], given: Given) -> Published:
    """The backbone whose parameters these are, pooled as ``given`` says, without a linear layer.

    Raises:
        ValueError: it is none of those that we have, or nobody says how it is pooled.
    """
    backbone = _recognised(name, tensors)
    if given.backbone not in ("", backbone):
        raise ValueError(f"{name} is a {backbone}; leave --backbone {given.backbone} out")
    refuse_told(name, given, "learned_on")
    if not given.pooling:
        raise ValueError(
            f"{name} is a {backbone} alone, and does not say how its features are pooled; give "
            "--pooling gem (with --gem-p), max, mean or rmac"
        )
    if given.gem_p and given.pooling != "gem":
        raise ValueError(f"--gem-p belongs to --pooling gem, got --pooling {given.pooling}")
    # ImageNet's statistics stand on the pages that offer such files, not in them.
    told = given.pixel_mean or given.pixel_std
    config = ModelConfig(
        backbone=backbone,
        pooling=given.pooling,  # type: ignore[arg-type]
        gem_p=given.gem_p or _DEFAULT_P,
        dim=0,
        **(pixels_of(name, None, None, given) if told else {}),
    )
    own = {} if given.pooling != "gem" else {"pooling.p": torch.tensor([config.gem_p])}
    kept = {key: value for key, value in tensors.items() if not key.startswith(_CLASSIFIER)}
    prefixes = (("pooling.", "pooling."), ("", "backbone."))
    return fitted(name, Published(kind=_KIND, config=config), kept | own, prefixes)


def _recognised(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The backbone that has exactly these parameters.

    Raises:
        ValueError: none has; says in what the nearest differs.
    """
    found = {key: value for key, value in tensors.items() if not key.startswith(_CLASSIFIER)}
    expected = {}
    for backbone in RESNETS:
        with torch.device("meta"):
            network, _ = build_backbone(backbone)
        expected[backbone] = {key: value.shape for key, value in network.state_dict().items()}
        if not differences(found, expected[backbone]):
            return backbone
    nearest = max(RESNETS, key=lambda name: _num_alike(found, expected[name]))
    if not _num_alike(found, expected[nearest]):
        raise ValueError(
            f"{name} holds no ResNet by torchvision's names, which begin with conv1.weight; its "
            f"own begin with {', '.join(list(tensors)[:3])}"
        )
    raise ValueError(
        f"{name} is none of {', '.join(RESNETS)}; next to {nearest}: "
        f"{differences(found, expected[nearest])}"
    )


def _num_alike(found: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> int:
    return sum(key in expected and value.shape == expected[key] for key, value in found.items())
