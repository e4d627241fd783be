"""Pooling: one vector from what a backbone finds in an image.

Shapes: b images, c channels, h x w positions, r regions.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.config import ModelConfig
from apdist.model.traits import Features, Traits


def choose_pooling(config: ModelConfig, traits: Traits) -> str:
    """The name of the pooling that ``config`` asks for; ``auto`` is what the backbone is made for.

    Raises:
        ValueError: the backbone does not give what it pools.
    """
    if config.pooling == "auto":
        own = "cls" if traits.has_cls else "mean" if traits.is_signed else "gem"
        chosen = "attention" if traits.has_attention else own
    else:
        chosen = config.pooling
        _refuse_unfit(chosen, config, traits)
    if config.regional and chosen not in ("gem", "mean", "max"):
        raise ValueError(
            f"model.regional pools regions by gem, mean or max, and model.pooling {config.pooling} "
            f"is {chosen} for {config.backbone}; name one of these, or leave it out"
        )
    if config.gem_per_channel and chosen != "gem":
        raise ValueError(
            f"model.gem_per_channel belongs to GeM, and model.pooling {config.pooling} is {chosen} "
            f"for {config.backbone}; leave it out"
        )
    return chosen


def _refuse_unfit(pooling: str, config: ModelConfig, traits: Traits) -> None:
    auto = choose_pooling(ModelConfig(backbone=config.backbone), traits)
    others = [name for name in ("mean", "max", "rmac") if name != auto]
    instead = f"{auto} (auto), {others[0]}, {' or '.join(others[1:])}"
    if pooling == "gem" and traits.is_signed:
        raise ValueError(
            f"model.pooling gem takes powers of features, and those of {config.backbone} are "
            f"signed: half of them would have no gradient; use {instead}"
        )
    if pooling in ("cls", "cls+mean") and not traits.has_cls:
        raise ValueError(
            f"model.pooling {pooling} needs a backbone that was trained with a class token, and "
            f"{config.backbone} was not; use {instead}"
        )
    if pooling == "attention" and not traits.has_attention:
        raise ValueError(
            f"model.pooling attention needs a backbone with an attention pooling of its own, and "
            f"{config.backbone} has none; use {instead}"
        )


def build_pooling(name: str, config: ModelConfig, num_channels: int) -> tuple[nn.Module, int]:
    """The pooling of that ``name``, `Features` to (b, c'), and c'."""
    pooling: nn.Module
    if name == "gem":
        pooling = GeM(config.gem_p, num_channels if config.gem_per_channel else 1)
    else:
        pooling = _Pooling(_POOLINGS[name])
    if config.regional:
        pooling = Regional(pooling, num_channels, config.norm_eps)
    return pooling, num_channels * (2 if name == "cls+mean" else 1)


class GeM(nn.Module):
    """Generalised mean over positions with a learnable exponent (Radenovic et al., 2018, eq. 3).

    Args:
        p: start of the exponent; 1 is the mean, infinity the maximum.
        num_exponents: 1, or one for each channel.
        eps: features are clamped to at least this.
    """

    def __init__(self, p: float = 3.0, num_exponents: int = 1, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((num_exponents,), float(p)))
        self.eps = eps

    def forward(self, features: Features) -> Tensor:
        """Pool the maps (b, c, h, w) of ``features`` to (b, c)."""
        # The gradient of x**p is infinite at 0 for p < 1. The power overflows in half precision.
        powered = _wide(features.maps).clamp(min=self.eps).pow(self.p[:, None, None])
        return powered.mean(dim=(-2, -1)).pow(1 / self.p)  # (b, c)


class Regional(nn.Module):
    """Sum of unit vectors of R-MAC's regions, each pooled, normed, through a linear layer, normed.

    ``Rpool`` of cnnimageretrieval-pytorch.

    Args:
        pooling: of a region.
        num_channels: of the features.
        norm_eps: added to lengths.
        num_levels: sizes of regions, beside the whole map.
    """

    def __init__(
        self, pooling: nn.Module, num_channels: int, norm_eps: float = 0.0, num_levels: int = 3
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.linear = nn.Linear(num_channels, num_channels)
        self.norm_eps, self.num_levels = norm_eps, num_levels

    def forward(self, features: Features) -> Tensor:
        """Pool the maps (b, c, h, w) of ``features`` to (b, c)."""
        maps = features.maps
        regions = regions_of(maps.shape[-2], maps.shape[-1], self.num_levels)
        parts = [maps, *(maps[..., y : y + side, x : x + side] for y, x, side in regions)]
        pooled = torch.stack([self.pooling(Features(part)) for part in parts])  # (r, b, c)
        # As in `DescriptorNet`, half precision would cost the gradient.
        with torch.autocast(maps.device.type, enabled=False):
            whitened = self.linear(unit_length(pooled, self.norm_eps))
            summed: Tensor = unit_length(whitened, self.norm_eps).sum(dim=0)  # (b, c)
            return unit_length(summed, self.norm_eps)


def unit_length(vectors: Tensor, eps: float = 0.0) -> Tensor:
    """``vectors`` (..., c) over their length plus ``eps``."""
    if not eps:
        return F.normalize(vectors, dim=-1)
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / (lengths + eps)


def towards_centre(maps: Tensor, bias: float) -> Tensor:
    """``maps`` (b, c, h, w) weighed by 1 at the edge and up to 1 + ``bias`` in the middle.

    ``center_bias`` of deep-image-retrieval: a 4 x 4 map of weights, bilinear from corner to corner.
    """
    weights = maps.new_ones((1, 1, 4, 4))
    weights[..., 1:3, 1:3] += bias
    shape = maps.shape[-2:]
    return maps * F.interpolate(weights, shape, mode="bilinear", align_corners=True)


def rmac(maps: Tensor, num_levels: int = 3, eps: float = 1e-6) -> Tensor:
    """Sum (b, c) of the unit maxima of square regions of ``maps`` (b, c, h, w).

    R-MAC of Tolias, Sicre, Jegou, 2016, arXiv:1511.05879, section 3.3: the whole map, and regions
    of ``num_levels`` sizes.
    """
    height, width = maps.shape[-2:]
    maxima = [maps.amax(dim=(-2, -1))]
    maxima += [
        maps[..., top : top + size, left : left + size].amax(dim=(-2, -1))
        for top, left, size in regions_of(height, width, num_levels)
    ]
    regions = torch.stack(maxima)  # (r, b, c)
    unit: Tensor = regions / (regions.norm(dim=2, keepdim=True) + eps)
    return unit.sum(dim=0)


def regions_of(height: int, width: int, num_levels: int) -> list[tuple[int, int, int]]:
    """Top, left and side of the square regions of R-MAC, level by level.

    A region of level l has the side 2 min(h, w) / (l + 1). Along the shorter side of the map lie l
    of them, along the longer one as many more as let neighbours overlap by nearly 40 %.
    """
    short, long = sorted((height, width))
    # In float32, step by step as torch computes the published code: rounding decides ties of the
    # overlap (maps of 9:5) and starts that are whole numbers.
    steps = (long - short) * (1 / np.arange(1, 7, dtype=np.float32))  # (6,)
    overlap = abs((short**2 - short * steps) / short**2 - _OVERLAP)
    more = 1 + int(overlap.argmin()) if long > short else 0
    regions = []
    for level in range(1, num_levels + 1):
        size = 2 * short // (level + 1)
        tops = _starts(height, size, level + (more if height > width else 0))
        lefts = _starts(width, size, level + (more if width > height else 0))
        regions += [(top, left, size) for top in tops for left in lefts if size]
    return regions


def _starts(length: int, size: int, count: int) -> list[int]:
    """Where ``count`` regions of ``size`` begin, evenly from end to end of ``length``."""
    step = (length - size) / (count - 1) if count > 1 else 0.0
    # Published code rounds down the centres: of regions of 1 they lie at -1, of odd ones at halves.
    half = size // 2 - 1
    centres = np.floor(half + np.arange(count, dtype=np.float32) * step)
    return [int(centre) - half for centre in centres]


class _Pooling(nn.Module):
    """A pooling without parameters, of features in full precision."""

    def __init__(self, pool: Callable[[Features], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features: Features) -> Tensor:
        """Pool ``features`` to (b, c')."""
        cls, attended = (
            None if part is None else _wide(part) for part in (features.cls, features.attended)
        )
        return self.pool(Features(_wide(features.maps), cls, attended))


def _mean(features: Features) -> Tensor:
    return features.maps.mean(dim=(-2, -1))


def _cls(features: Features) -> Tensor:
    assert features.cls is not None
    return features.cls


def _attended(features: Features) -> Tensor:
    assert features.attended is not None
    return features.attended


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


_OVERLAP = 0.4
_POOLINGS: dict[str, Callable[[Features], Tensor]] = {
    "mean": _mean,
    "max": lambda features: features.maps.amax(dim=(-2, -1)),
    "cls": _cls,
    "cls+mean": lambda features: torch.cat([_cls(features), _mean(features)], dim=1),
    "attention": _attended,
    "rmac": lambda features: rmac(features.maps),
}
