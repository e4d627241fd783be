"""Images that are far from everything, and from their own class.

Shapes: n images, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEVIATIONS = 5.0
"""Robust deviations under the median similarity at which an image is far from everything."""
NEAREST = 5
_PER_DEVIATION = 1.4826
"""Deviations in a median absolute deviation, of a normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """An image that is like no other."""

    row: int
    similarity: float
    """Mean cosine similarity to its nearest images."""
    usual: float
    """The median of it over all images."""
    nearest: int
    """Row of the nearest image."""


def find_outliers(
    scores: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[Outlier]:
    """The outliers, the farthest first.

    Args:
        scores: (n, k) of the nearest other images, best first, duplicates aside; NaN for none.
        rows: (n, k) of these.
        labels: (n,).
    """
    near = np.where(np.isnan(scores), -np.inf, scores)
    top = -np.sort(-near, axis=1)[:, :NEAREST]
    similarity = np.where(np.isinf(top), 0, top).sum(axis=1) / np.maximum(
        1, np.isfinite(top).sum(axis=1)
    )
    has_any = np.isfinite(top).any(axis=1)
    if not has_any.any():
        return []
    usual = float(np.median(similarity[has_any]))
    spread = _PER_DEVIATION * float(np.median(np.abs(similarity[has_any] - usual)))
    is_own = (labels[rows] == labels[:, None]) & np.isfinite(near)
    own = np.where(is_own, near, -np.inf).max(axis=1)
    # What has a neighbour of its class at the usual distance is a rare view, not an outlier.
    is_far = has_any & (similarity < usual - DEVIATIONS * spread) & (own < usual)
    found = np.flatnonzero(is_far)
    nearest = rows[np.arange(len(rows)), near.argmax(axis=1)]
    return [
        Outlier(row=row, similarity=float(similarity[row]), usual=usual, nearest=int(nearest[row]))
        for row in found[np.argsort(similarity[found], kind="stable")].tolist()
    ]
