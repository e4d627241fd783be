"""What scoring a batch gives.

Shapes: b rows of this worker, d descriptor size, M bins.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from apdist.config.loss import Bins
from apdist.loss.precision import bin_centres

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnostics:
    """By-products of the loss over the global batch, the same on every worker."""

    num_queries: int
    """Queries with a positive; the listwise loss is a mean over them."""

    num_lone_queries: int
    """Queries without a positive, left out."""

    positive_histogram: Tensor
    """(M,) float64 positive pairs (query, image) by bin of similarity, best first; two bins, at 1
    and -1, for any loss but the listwise one."""

    negative_histogram: Tensor
    """(M,) float64 negative pairs."""

    wrong_sign_share: float
    """Share of the positive pairs that are pushed apart: binned AP is not monotone."""

    def mean_score(self, kind: Literal["positive", "negative"], bins: Bins) -> float:
        """Mean similarity of the ``kind`` pairs, to the resolution of the bins; NaN without any."""
        histogram = self.positive_histogram if kind == "positive" else self.negative_histogram
        return float((histogram * bin_centres(bins).to(histogram)).sum() / histogram.sum())


@dataclass(frozen=True)
class RowScores:
    """What one worker knows after scoring its own rows of the global batch."""

    loss: Tensor
    """() float64 loss of the global batch, the same on every worker."""

    average_precision: Tensor
    """(b,) float64 per own query; NaN where undefined, and for any loss but the listwise one."""

    gradient: Tensor
    """(b, d) derivative of the loss by the own descriptors, in their dtype."""

    diagnostics: Diagnostics
    """By-products, the same on every worker."""

    parameter_gradients: tuple[Tensor | None, ...] = ()
    """Derivatives of the loss of the global batch by its own parameters, whole on every worker."""

    listwise_loss: Tensor | None = None
    """() float64 of the listwise loss, alone or as a term without its weight; None without one."""

    term_losses: tuple[Tensor, ...] = ()
    """() float64 of each term of a sum, without its weight; then those of a `Matryoshka`, of the
    first numbers and of whole descriptors."""


def warn_of_no_positives(num_images: int) -> None:
    """Say why the loss is 0."""
    logger.warning(
        "no query among %d images has a positive of weight above 0: loss and gradient are 0; "
        "draw several images of a class into a batch",
        num_images,
    )
