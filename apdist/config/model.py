"""Options of the network."""

from dataclasses import dataclass
from typing import Literal

from apdist.config.values import in_range

BACKBONES = ("small", "resnet18", "resnet50", "resnet101", "efficientnet_lite0")
MOST_DIMENSIONS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Backbone -> GeM -> (L2) -> linear -> L2."""

    backbone: str = "small"
    """Network under the pooling: small, resnet18, resnet50, resnet101, efficientnet_lite0
    (pretrained; extra `lite0`), or hub:NAME, a vision model of transformers (extra `hub`)."""
    weights: str = ""
    """File with backbone weights (.safetensors or .pth); empty: the backbone's own start."""
    dim: int = 128
    """Size of the descriptor."""
    gem_p: float = 3.0
    """Start of the learnable GeM exponent."""
    norm_before_linear: bool = False
    """Put an L2 norm between GeM and the linear layer; published models differ in this."""
    batch_norm: Literal["frozen", "chunk"] = "frozen"
    """Keep batch-norm statistics fixed (exact full-batch gradient), or take those of each chunk."""

    def __post_init__(self) -> None:
        in_range("model.dim", self.dim, 2, MOST_DIMENSIONS)
        if self.backbone not in BACKBONES and not self.backbone.startswith("hub:"):
            raise ValueError(
                f"model.backbone must be one of {', '.join(BACKBONES)} or hub:NAME, "
                f"got {self.backbone!r}"
            )
        in_range("model.gem_p", self.gem_p, 1e-3, 1e3)
