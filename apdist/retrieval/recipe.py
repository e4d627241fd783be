"""Descriptors as papers make them with a network: other sizes, several scales, whitened, cut.

Shapes: b images, h x w pixels, d descriptor size of the network, k that of what is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.arrays import number_of
from apdist.data.images import Fit
from apdist.loss.matryoshka import first_numbers
from apdist.model.descriptor import DescriptorNet
from apdist.model.kept_whitenings import find_whitening, refuse_other_model
from apdist.model.pieces import in_pieces
from apdist.model.pretrained import TrainedModel
from apdist.model.whitening import Whitening
from apdist.retrieval.expansion import pool_scales

LARGEST_SCALE = 4.0
"""An image of four times the side has sixteen times the pixels."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done beside the network's own way, which is one scale, and no whitening."""

    size: int = 0
    """Longer side of an image in pixels, its shape kept; 0: as the run measures. Smaller images are
    enlarged to it, unless the run enlarges none."""
    scales: tuple[float, ...] = (1.0,)
    """Each image is described at these multiples of its size."""
    scale_power: float = 1.0
    """p of the power mean over scales (`pool_scales`); 1: the mean."""
    whitening: Whitening | None = None
    """Applied to what the scales gave."""
    dim: int = 0
    """Numbers that are kept of that, the first ones, of unit length again; 0: all."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size must be at least 0 pixels, got {self.size}")
        if self.dim < 0:
            raise ValueError(f"dim must be at least 0 numbers, got {self.dim}")
        if not self.scales:
            raise ValueError("scales: give one or more, such as 1 0.7071 1.4142")
        for scale in self.scales:
            if not 0 < scale <= LARGEST_SCALE or not math.isfinite(scale):
                raise ValueError(
                    f"scales must lie in (0, {LARGEST_SCALE:g}], got {scale:g}; they are multiples "
                    "of an image's size"
                )
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"scales must differ, got {list(self.scales)}")
        number_of("scale_power", self.scale_power, 0.01, 100)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done beside the network's own way."""
        return not self.size and self._is_the_network_s

    @property
    def _is_the_network_s(self) -> bool:
        """Whether descriptors of given images are those of the network."""
        return self.scales == (1.0,) and self.whitening is None and not self.dim

    def facts(self) -> dict[str, Any]:
        """What it does, for files that say how their descriptors were made."""
        found: dict[str, Any] = {"size": self.size, "scales": list(self.scales)}
        if len(self.scales) > 1:
            found["scale_power"] = self.scale_power
        if self.whitening is not None:
            found["whitening"] = _digest(self.whitening)
        if self.dim:
            found["dim"] = self.dim
        return found

    def fit(self, fit: Fit) -> Fit:
        """How images are brought to the network, where it is ``fit`` by itself."""
        if not self.size:
            return fit
        resize = "longest" if fit.resize == "crop" else fit.resize
        return dataclasses.replace(fit, side=self.size, resize=resize)

    def learned_otherwise(self, fit: Fit) -> str:
        """How the images differed that the whitening was learned from, or an empty text.

        Args:
            fit: how images are brought to the network by itself.
        """
        learned = self.whitening
        if learned is None or not learned.scales:  # nobody knows
            return ""
        own = Recipe(size=learned.size, scales=learned.scales, scale_power=learned.scale_power)
        differ = {
            "size": own.fit(fit) != self.fit(fit),
            "scales": not _alike(own.scales, self.scales, 1e-3),
            "scale_power": len(self.scales) > 1
            and _alike(own.scales, self.scales, 1e-3)
            and not _alike((own.scale_power,), (self.scale_power,), 1e-2),
        }
        return ", ".join(
            f"{name} {_shown(getattr(own, name))} (here {_shown(getattr(self, name))})"
            for name, is_other in differ.items()
            if is_other
        )

    def of(self, network: DescriptorNet) -> nn.Module:
        """What describes with ``network``: images (b, 3, h, w) to (b, k).

        Raises:
            ValueError: the whitening was learned from descriptors of another size, or there are
                fewer numbers than are to be kept.
        """
        if self._is_the_network_s:
            return network
        if self.whitening is not None and len(self.whitening.mean) != network.dim:
            raise ValueError(
                f"the whitening was learned from descriptors of {len(self.whitening.mean)} numbers "
                f"and this network gives {network.dim}; take one that was learned from its own"
            )
        self.dim_of(network)
        return _Prepared(network, self)

    def dim_of(self, network: DescriptorNet) -> int:
        """Size of the descriptors that are made with ``network``.

        Raises:
            ValueError: there are fewer numbers than are to be kept.
        """
        whole = network.dim if self.whitening is None else len(self.whitening.projection)
        if self.dim > whole:
            raise ValueError(
                f"dim {self.dim} is more than the {whole} numbers of a descriptor; keep fewer, or "
                "leave it out"
            )
        return self.dim or whole


def recipe_of(describing: Mapping[str, Any], run: str, dim: int) -> Recipe:
    """The recipe by its options, as an index notes them.

    Args:
        describing: size, scales, scale_power, dim, and whiten, the name of a whitening or its file.
        run: URI of the run's folder, which has whitenings.
        dim: size of the network's descriptors.

    Raises:
        ValueError: they are damaged, an option is out of range, or there is no such whitening.
    """
    try:
        size, scales, power = (
            describing["size"],
            tuple(describing["scales"]),
            describing["scale_power"],
        )
        name, kept = describing["whiten"], describing["dim"]
    except (TypeError, LookupError) as error:
        raise ValueError(f"how descriptors were made is damaged ({error!r})") from error
    whitening = find_whitening(run, name, dim) if name else None
    if kept == (dim if whitening is None else len(whitening.projection)):
        kept = 0  # nothing is cut
    return Recipe(size=size, scales=scales, scale_power=power, whitening=whitening, dim=kept)


def prepared(model: TrainedModel, recipe: Recipe) -> TrainedModel:
    """The ``model`` with a recipe, and an id of its own where that does anything.

    Raises:
        ValueError: the whitening was learned with another model.
    """
    if recipe.is_plain:
        return model
    assert isinstance(model.network, DescriptorNet)
    if recipe.whitening is not None:
        refuse_other_model(recipe.whitening, model.model_id)
    facts = json.dumps(recipe.facts(), sort_keys=True).encode()
    return dataclasses.replace(
        model,
        network=recipe.of(model.network),
        fit=recipe.fit(model.fit),
        model_id=f"{model.model_id}-{hashlib.sha256(facts).hexdigest()[:8]}",
    )


class _Prepared(nn.Module):
    """A network, at several scales, whitened, cut."""

    def __init__(self, network: DescriptorNet, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe

    def forward(self, images: Tensor) -> Tensor:
        """Describe ``images`` (b, 3, h, w), uint8 or in [0, 1], as (b, k)."""
        recipe, multiple = self.recipe, self.network.traits.stride or 1
        found = [
            in_pieces(self.network, at_scale(images, scale, multiple)) for scale in recipe.scales
        ]
        pooled = found[0]
        if len(found) > 1:
            pooled = pool_scales(torch.stack(found), p=recipe.scale_power)
        if recipe.whitening is not None:
            pooled = recipe.whitening(pooled)
        return first_numbers(pooled, recipe.dim) if recipe.dim else pooled


def at_scale(images: Tensor, scale: float, multiple: int = 1) -> Tensor:
    """Images (b, 3, h, w), uint8 or in [0, 1], at ``scale`` times their size, as they are or float.

    Bilinear, corners not aligned, not smoothed before: as the published code (cirtorch) has it.

    Args:
        images: to be scaled.
        scale: of their sides.
        multiple: of which height and width stay multiples.
    """
    if scale == 1:
        return images
    pixels = images if images.is_floating_point() else images / 255
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False}
    if multiple == 1 and min(images.shape[2:]) * scale >= 1:
        return F.interpolate(pixels, scale_factor=scale, **options)
    size = [max(1, round(side * scale / multiple)) * multiple for side in images.shape[2:]]
    return F.interpolate(pixels, size=size, **options)


def _alike(one: tuple[float, ...], other: tuple[float, ...], error: float) -> bool:
    """Whether they are the same in some order but for a relative ``error``: 0.7071 for 1/2^0.5."""
    pairs = zip(sorted(one), sorted(other), strict=False)
    return len(one) == len(other) and all(math.isclose(*pair, rel_tol=error) for pair in pairs)


def _shown(value: float | tuple[float, ...]) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{v:g}" for v in values) if value else "as the run measures"


def _digest(whitening: Whitening) -> str:
    """Of its numbers, short."""
    found = hashlib.sha256()
    for tensor in (whitening.mean, whitening.projection):
        found.update(tensor.detach().cpu().double().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
