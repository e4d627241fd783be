"""What an average-precision loss is asked to compute: bins, variant, pairs that count, schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

VARIANTS = ("ap", "tie_aware", "tie_aware_simplified")
BACKENDS = ("dense", "tiled", "numba", "triton", "auto")
PRECISIONS = ("float32", "bf16x3")


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Overlapping triangular bins over a range of scores, the best score first."""

    num_bins: int = 20
    """M: bins over the range; more bins rank finer, cost memory."""

    score_range: tuple[float, float] = (-1.0, 1.0)
    """Centres of the last and the first bin; a score outside counts wholly in the end bin."""

    def __post_init__(self) -> None:
        if isinstance(self.num_bins, bool) or not isinstance(self.num_bins, int):
            raise ValueError(f"num_bins must be an int, got {self.num_bins!r}; use 20, for example")
        if self.num_bins < 2:
            raise ValueError(f"num_bins must be at least 2, got {self.num_bins}; the usual is 20")
        pair = self.score_range
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and all(isinstance(end, int | float) and math.isfinite(end) for end in pair)
            and pair[0] < pair[1]
        ):
            raise ValueError(
                f"score_range must be finite and (low, high) with low < high, got {pair!r}; "
                "cosine similarity spans (-1.0, 1.0)"
            )

    @property
    def high(self) -> float:
        """Centre of bin 0."""
        return self.score_range[1]

    @property
    def width(self) -> float:
        """Distance of two neighbouring centres."""
        low, high = self.score_range
        return (high - low) / (self.num_bins - 1)

    def centres(self) -> Tensor:
        """(M,) float64 scores of the centres, the best first."""
        low, high = self.score_range
        return torch.linspace(high, low, self.num_bins, dtype=torch.float64)


@dataclass(frozen=True)
class LossOptions:
    """Everything about the loss except the batch."""

    bins: Bins = Bins()
    """Quantisation of the scores."""

    variant: str = "ap"
    """One of VARIANTS: how images that share a bin are ranked among each other."""

    include_self: bool = False
    """Whether a query is also one of its own positives, as in the published code."""

    tile_size: int | None = None
    """Rows and columns of a tile of similarities; None chooses by device."""

    backend: str = "auto"
    """One of BACKENDS."""

    cache_bytes: int | Literal["auto"] = "auto"
    """Memory for one byte a pair that saves the backward pass a matrix product; 0 keeps none.
    "auto" is 256 MiB, on a GPU half of what is free if that is more."""

    check_norm: bool = True
    """Whether descriptors that are not of unit length are refused."""

    precision: str = "float32"
    """One of PRECISIONS: of matrix products; "bf16x3" has 16 binary digits of each factor."""

    def __post_init__(self) -> None:
        _check_choice("variant", self.variant, VARIANTS)
        _check_choice("backend", self.backend, BACKENDS)
        _check_choice("precision", self.precision, PRECISIONS)
        if self.tile_size is not None and not _is_whole(self.tile_size, 1):
            raise ValueError(f"tile_size must be at least 1, got {self.tile_size!r}; try 1024")
        if self.cache_bytes != "auto" and not _is_whole(self.cache_bytes, 0):
            raise ValueError(
                f'cache_bytes must be at least 0 or "auto", got {self.cache_bytes!r}; '
                "0 keeps nothing"
            )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
