"""Options of the listwise loss, each written once: Python, the command line and a run have them."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_type_hints

from apdist.config.values import at_least, checked, of_python

Variant = Literal["ap", "tie_aware", "tie_aware_simplified"]
Precision = Literal["float32", "bf16x3"]
Backend = Literal["auto", "tiled", "numba", "triton", "dense"]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Overlapping triangular bins over a range of scores, the best score first."""

    section: ClassVar[str] = ""
    """What stands before the name of an option in messages."""

    num_bins: int = 20
    """Histogram bins over cosine similarity; more bins rank finer, take more time, and push more
    positive pairs the wrong way."""
    min_score: float = -1.0
    """Similarity at the centre of the last bin."""
    max_score: float = 1.0
    """Similarity at the centre of the first bin."""

    def __post_init__(self) -> None:
        options: Any = type(self)  # mypy takes a class of objects with a hash for unhashable
        for name, kind in _kinds(options).items():
            value = checked(self.section + name, of_python(getattr(self, name)), kind)
            object.__setattr__(self, name, value)
        at_least(self.section + "num_bins", self.num_bins, 2)
        if not -math.inf < self.min_score < self.max_score < math.inf:
            raise ValueError(
                f"{self.section}min_score {self.min_score} must be below {self.section}max_score "
                f"{self.max_score}, both finite; cosine similarity spans -1.0 to 1.0"
            )


@dataclass(frozen=True, kw_only=True)
class TiledOptions(Bins):
    """What decides time and memory of the tiles, beside the bins."""

    cache_mib: int | Literal["auto"] = "auto"
    """Memory in MiB for one byte a pair of images that saves up to a third of the loss's time;
    auto: 256, on a GPU half of what is free if that is more."""
    precision: Precision = "float32"
    """Products of the descriptors: float32, or three of bfloat16 with an error near that of
    float32, some three times faster on a GPU (on a CPU slower: for tests)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache_mib != "auto":
            at_least(self.section + "cache_mib", self.cache_mib, 0)


@dataclass(frozen=True, kw_only=True)
class ListwiseOptions(TiledOptions):
    """What a run can choose, where its loss is listwise."""

    include_self: bool = False
    """A query is also its own positive."""


@dataclass(frozen=True, kw_only=True)
class LossOptions(ListwiseOptions):
    """Everything about the listwise loss except the batch."""

    variant: Variant = "ap"
    """How images that share a bin are ranked among each other, see `average_precision_of_bins`."""
    tile_size: int | Literal["auto"] = "auto"
    """Rows and columns of similarities held at once; auto chooses by device. On a GPU a multiple of
    128, the next one if need be."""
    backend: Backend = "auto"
    """tiled (any device), numba (CPU), triton (float32 on CUDA), dense (the definition, O(n^2 M)
    memory), or the fastest here."""
    check_norm: bool = True
    """Refuse descriptors whose length is not 1 within 1e-3."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile_size != "auto":
            at_least("tile_size", self.tile_size, 1)


@functools.cache
def _kinds(options: Any) -> dict[str, Any]:
    """Type of each option."""
    hints = get_type_hints(options)
    return {option.name: hints[option.name] for option in dataclasses.fields(options)}
