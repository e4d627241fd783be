"""The map of the descriptors: which images are on it, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apdist.report.pictures import Picture
from apdist.report.tsne import LEAST_IMAGES, lay_out

MOST_IMAGES = 2000
"""The layout takes time with their square: 2,000 take some ten seconds."""
PER_CLASS = 20
"""Images of a class on a map that has not room for all."""
WIDTH, HEIGHT, MARGIN = 1000, 620, 16
_GOLDEN_ANGLE = 137.508


@dataclass(frozen=True, kw_only=True)
class MapImage(Picture):
    """An image on the map."""

    row: int
    average_precision: float | None
    """As a query; None where it has nothing to find."""


@dataclass(frozen=True)
class Dot:
    """An image at its place in the drawing, in pixels."""

    image: MapImage
    x: float
    y: float


@dataclass(frozen=True)
class Island:
    """The dots of a class."""

    label: str
    label_id: int
    hue: int
    """Degrees; those of neighbouring classes are far apart."""
    dots: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Images by how alike their descriptors are."""

    islands: tuple[Island, ...]
    method: str
    num_images: int
    """In all; the map may have fewer."""
    num_classes: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def images(self) -> list[MapImage]:
        """All that are on it."""
        return [dot.image for island in self.islands for dot in island.dots]


def choose_images(labels: NDArray[np.int64], first: Iterable[int], most: int) -> list[int]:
    """Rows for a map of ``most`` images, ascending: all, or whole classes.

    Args:
        labels: (n,) class of each image.
        first: classes that come first; the others follow evenly spaced.
        most: images. Where there are more, a class has at most `PER_CLASS` of them.
    """
    if len(labels) <= most:
        return list(range(len(labels)))
    order = np.argsort(labels, kind="stable")
    known, starts = np.unique(labels[order], return_index=True)
    rows_of = dict(zip(known.tolist(), np.split(order, starts[1:]), strict=True))
    step = max(1, len(known) * PER_CLASS // max(1, most))
    spaced = [label for start in range(step) for label in known[start::step].tolist()]
    chosen: list[int] = []
    for label in dict.fromkeys([*first, *spaced]):
        chosen += rows_of[label][:PER_CLASS].tolist()
        if len(chosen) >= most:
            break
    return sorted(chosen[:most])


def draw_map(
    descriptors: Tensor, images: Sequence[MapImage], num_images: int, num_classes: int
) -> EmbeddingMap | None:
    """A map of ``images`` by their descriptors (n, d); None of fewer than two images."""
    if len(images) < 2:
        return None
    places = _in_pixels(lay_out(descriptors.cpu().numpy()))
    dots = [Dot(image, *place) for image, place in zip(images, places, strict=True)]
    dots.sort(key=lambda dot: (dot.image.label_id, dot.image.row))
    islands = []
    for number, (label, its_dots) in enumerate(groupby(dots, lambda dot: dot.image.label_id)):
        own = tuple(its_dots)
        hue = round(number * _GOLDEN_ANGLE) % 360
        islands.append(Island(own[0].image.label, label, hue, own))
    return EmbeddingMap(
        islands=tuple(islands),
        method="t-SNE" if len(images) >= LEAST_IMAGES else "PCA",
        num_images=num_images,
        num_classes=num_classes,
    )


def _in_pixels(places: NDArray[np.floating]) -> list[tuple[float, float]]:
    """Places (n, 2) scaled alike along both axes, into the middle of the drawing."""
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    scale = (room / np.maximum(high - low, 1e-12)).min() if (high > low).any() else 0.0
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    pixels = (places - (low + high) / 2) * scale + middle
    return [(round(x, 1), round(y, 1)) for x, y in pixels.tolist()]
