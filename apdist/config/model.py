"""Options of the network."""

import math
from dataclasses import dataclass
from typing import Literal

from apdist.config.values import at_least, in_range, suggestion

BACKBONES = ("small", "resnet18", "resnet50", "resnet101", "efficientnet_lite0")
MOST_DIMENSIONS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Backbone -> pooling -> (L2) -> (linear) -> L2."""

    backbone: str = "small"
    """Network under the pooling: small, resnet18, resnet50, resnet101, efficientnet_lite0
    (pretrained; extra `lite0`), or hub:NAME, a vision model of transformers on the hub or in a
    folder (extra `hub`)."""
    weights: str = ""
    """File with backbone weights (.safetensors or .pth), or the model.safetensors of a run, whose
    pooling and linear layer are taken, too; empty: the backbone's own start, which is random for
    small and the ResNets."""
    pixel_mean: tuple[float, ...] = ()
    """Means of red, green and blue in [0, 1] that are subtracted; empty: the backbone's own."""
    pixel_std: tuple[float, ...] = ()
    """Deviations of red, green and blue that they are divided by; empty: the backbone's own."""
    local_whitening: bool = False
    """A linear layer on each position of the features before they are pooled, as in cirtorch."""
    centre_bias: float = 0.0
    """Weigh features in the middle of the map by up to 1 + this before pooling, as in dirtorch."""
    pooling: Literal["auto", "gem", "mean", "max", "cls", "cls+mean", "rmac", "attention"] = "auto"
    """From the backbone's features to one vector: gem, mean, max or rmac of its map, the class
    token (cls), both beside each other (cls+mean), or the model's own attention pooling. auto: gem
    where features are not negative, else attention, cls or mean, the first that the model has."""
    gem_p: float = 3.0
    """Start of the learnable GeM exponent."""
    gem_per_channel: bool = False
    """A GeM exponent for each channel, in place of one for all."""
    regional: bool = False
    """Pool each of R-MAC's regions by itself, with a linear layer on its unit vector, and add up
    what it gives, of unit length again, as in cirtorch."""
    dim: int = 128
    """Size of the descriptor; 0: no linear layer, the descriptor is what was pooled."""
    norm_before_linear: bool = False
    """Put an L2 norm between pooling and the linear layer; published models differ in this."""
    norm_eps: float = 0.0
    """Added to the lengths that L2 norms divide by: 1e-6 gives the very numbers of cirtorch."""
    init: Literal["random", "pca", "whitening"] = "random"
    """Start of the linear layer: random, or learned before the first step from training images:
    their axes of largest variance (pca), or whitened differences within classes (whitening)."""
    init_images: int = 32768
    """Most training images that the start of the linear layer is learned from, each once."""
    batch_norm: Literal["frozen", "chunk"] = "frozen"
    """Keep batch-norm statistics fixed (exact full-batch gradient), or take those of each chunk."""

    def __post_init__(self) -> None:
        if self.dim:
            in_range("model.dim", self.dim, 2, MOST_DIMENSIONS)
        if self.backbone not in BACKBONES and not self.backbone.startswith("hub:"):
            raise ValueError(
                f"model.backbone must be one of {', '.join(BACKBONES)} or hub:NAME, "
                f"got {self.backbone!r}{suggestion(self.backbone, list(BACKBONES))}"
            )
        in_range("model.gem_p", self.gem_p, 1e-3, 1e3)
        in_range("model.centre_bias", self.centre_bias, 0, 1e3)
        in_range("model.norm_eps", self.norm_eps, 0, 1e-3)
        self._check_pixels()
        at_least("model.init_images", self.init_images, 4)
        if self.init != "random" and not self.dim:
            raise ValueError(
                f"model.init {self.init} is a start of the linear layer, and with model.dim 0 "
                "there is none; give a dim, or leave model.init random"
            )
        if self.backbone in BACKBONES and self.pooling in ("cls", "cls+mean", "attention"):
            raise ValueError(
                f"model.pooling {self.pooling} needs a transformer, and {self.backbone} is "
                "convolutional; use auto, gem, mean, max or rmac"
            )
        if self.gem_per_channel and self.pooling not in ("auto", "gem"):
            raise ValueError(
                f"model.gem_per_channel belongs to GeM, got model.pooling {self.pooling}; use gem, "
                "or leave it out"
            )

    def _check_pixels(self) -> None:
        for name, values in (("pixel_mean", self.pixel_mean), ("pixel_std", self.pixel_std)):
            least = 0 if name == "pixel_mean" else 1e-6
            if values and not (
                len(values) == 3 and all(math.isfinite(v) and least <= v <= 1 for v in values)
            ):
                shown = " ".join(map(str, values))
                remedy = ""
                if max(values) > 1:
                    remedy = ": divide what is meant for pixels up to 255 by 255, turn BGR round"
                raise ValueError(
                    f"model.{name} must be three numbers in [0, 1], of red, green and blue in that "
                    f"order{'' if least == 0 else ', none of them 0'}; got {shown}{remedy}"
                )
