"""Options of the network and of the loss."""

from dataclasses import dataclass
from typing import Literal

from apdist.config.values import at_least, suggestion

BACKBONES = ("small", "resnet18", "resnet50", "resnet101", "efficientnet_lite0")


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
        at_least("model.dim", self.dim, 2)
        if self.backbone not in BACKBONES and not self.backbone.startswith("hub:"):
            raise ValueError(
                f"model.backbone must be one of {', '.join(BACKBONES)} or hub:NAME, "
                f"got {self.backbone!r}"
            )
        if self.gem_p <= 0:
            raise ValueError(f"model.gem_p must be positive, got {self.gem_p}")


LOSSES = (
    *("ap", "tie_aware", "tie_aware_simplified"),
    *("triplet", "contrastive", "multi_similarity", "smooth_ap", "recall_at_k"),
)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Listwise average-precision loss (Revaud et al., 2019), or one to compare with."""

    kind: str = "ap"
    """ap, tie_aware or tie_aware_simplified (listwise, any batch size); to compare with: triplet,
    contrastive, multi_similarity, smooth_ap, recall_at_k, or pml:NAME, a loss of
    pytorch-metric-learning (extra `metric-learning`)."""
    num_bins: int = 20
    """Histogram bins over cosine similarity; more bins rank finer, cost time and wrong signs."""
    min_score: float = -1.0
    """Similarity at the centre of the last bin."""
    max_score: float = 1.0
    """Similarity at the centre of the first bin."""
    cache_mib: int | Literal["auto"] = "auto"
    """Memory in MiB for one byte a pair of images that saves up to a third of the loss's time;
    auto: 256, on a GPU half of what is free if that is more."""
    precision: Literal["float32", "bf16x3"] = "float32"
    """Products of the descriptors: float32, or three of bfloat16 with an error near that of
    float32, some three times faster on a GPU (on a CPU slower: for tests)."""

    def __post_init__(self) -> None:
        if self.kind not in LOSSES and not self.kind.startswith("pml:"):
            raise ValueError(
                f"loss.kind must be one of {', '.join(LOSSES)} or pml:NAME, got {self.kind!r}"
                f"{suggestion(self.kind, list(LOSSES))}"
            )
        if self.cache_mib != "auto":
            at_least("loss.cache_mib", self.cache_mib, 0)
        at_least("loss.num_bins", self.num_bins, 2)
        if not self.min_score < self.max_score:
            raise ValueError(
                f"loss.min_score {self.min_score} must be below loss.max_score {self.max_score}"
            )
