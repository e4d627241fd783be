"""Pairs of images that may be copies: nearest by descriptor, nearest by thumbnail, equal bytes.

Shapes: n images, d descriptor size, k neighbours, p pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad

from apdist.audit.looks import Looks
from apdist.retrieval.ranking import nearest_rows

THUMBNAIL_SIDE = 12
"""Of those whose nearest are looked for: what is the same picture otherwise is still near."""
LEAST_THUMBNAIL_SCORE = 0.85
BY_THUMBNAIL = 4
"""Nearest of each image that are compared."""
BY_DESCRIPTOR = 2
WINDOW_SIDE = 58
WINDOW_PLACES = (0, 3, 6)
"""Tops and lefts of nine windows with 82 % of the area: 93 of 100 crops to 80 % are near to one."""


def neighbours(descriptors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float32 scores (n, k) and rows (n, k) of the nearest other images, -1 where there is none.

    Args:
        descriptors: (n, d) of unit length.
        k: neighbours of each.
    """
    count = len(descriptors)
    found = nearest_rows(descriptors, descriptors, min(k + 1, count))
    scores, rows = (part.cpu() for part in found)
    is_own = rows == torch.arange(count)[:, None]
    # Of more than k + 1 equal images some lack themselves among their nearest: they drop the last.
    is_own[:, -1] |= ~is_own.any(dim=1)
    missing = k - (rows.shape[1] - 1)
    others = (count, rows.shape[1] - 1)
    scores, rows = scores[~is_own].reshape(others), rows[~is_own].reshape(others)
    return (
        pad(scores, (0, missing), value=-1.0),
        pad(rows, (0, missing), value=-1),
    )


def thumbnail_neighbours(looks: Looks) -> list[tuple[Tensor, Tensor]]:
    """Scores and rows (n, k) of the nearest by what is seen from far: of images, and of parts."""
    whole = _seen_from_far(looks, 0, 0, looks.grey.shape[-1])
    found = [neighbours(whole, BY_THUMBNAIL)]
    # A part of an image is near to the window that it was cut from, not to the image.
    for top in WINDOW_PLACES:
        for left in WINDOW_PLACES:
            part = _seen_from_far(looks, top, left, WINDOW_SIDE)
            found.append(_others(*nearest_rows(part, whole, min(BY_THUMBNAIL, len(whole)))))
    return found


def _seen_from_far(looks: Looks, top: int, left: int, side: int) -> Tensor:
    """Unit vectors (n, 144) of a window of each image, less its mean and contrast."""
    small = torch.cat(
        [
            interpolate(
                torch.from_numpy(part[:, None, top : top + side, left : left + side]).float(),
                (THUMBNAIL_SIDE, THUMBNAIL_SIDE),
                mode="area",
            )
            for part in np.array_split(looks.grey, max(1, len(looks) // 4096))
        ]
    ).flatten(1)
    return normalize(small - small.mean(dim=1, keepdim=True), dim=1)


def _others(scores: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours (n, k) of which an image itself is none."""
    is_own = rows == torch.arange(len(rows))[:, None]
    return scores.masked_fill(is_own, -1.0), rows.masked_fill(is_own, -1)


def candidate_pairs(
    looks: Looks,
    by_thumbnail: Sequence[tuple[Tensor, Tensor]],
    by_descriptor: tuple[Tensor, Tensor] | None,
) -> NDArray[np.int64]:
    """Pairs (p, 2) of rows to compare, each once, the smaller row first.

    Args:
        looks: of all images.
        by_thumbnail: `thumbnail_neighbours`.
        by_descriptor: `neighbours` by the network's descriptors.
    """
    found = [np.empty((0, 2), np.int64)]
    for scores, rows in by_thumbnail:
        found.append(_pairs(torch.where(scores >= LEAST_THUMBNAIL_SCORE, rows, -1)))
    if by_descriptor is not None:
        found.append(_pairs(by_descriptor[1][:, :BY_DESCRIPTOR]))
    pairs = np.sort(np.concatenate(found), axis=1)
    pairs = pairs[~np.isin(pairs, list(looks.damaged)).any(axis=1)]
    return np.unique(pairs, axis=0)


def _pairs(rows: Tensor) -> NDArray[np.int64]:
    """(p, 2) from the neighbours (n, k) of each image; -1 is none."""
    image, place = torch.nonzero(rows >= 0, as_tuple=True)
    return torch.stack([image, rows[image, place]], dim=1).numpy()


def chained(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Pairs (p, 2) that join all images with equal ``keys`` (n,); empty keys are no keys."""
    last: dict[Hashable, int] = {}
    pairs = []
    for row, key in enumerate(keys):
        if key and key in last:
            pairs.append((last[key], row))
        last[key] = row
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
