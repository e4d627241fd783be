"""Groups of images that show the same picture: equal bytes, equal pixels, copies.

Shapes: n images, p pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apdist.audit.correlation import Match
from apdist.audit.looks import Looks
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import open_image
from apdist.data.loading.reader import ImageReader

How = Literal["equal bytes", "equal pixels", "copy"]
NEAR = 0.98
"""Correlation from which on two images are one picture: docs/benchmarks.md."""
SCANTY, NEAR_SCANTY = 0.05, 0.998
"""Fullness under which a picture has so little in it (a stroke, a dot) that others fit, and the
correlation that it needs."""
MOST_COLOUR = 5.0
"""Mean difference of chrominance up to which they are."""
_MAYBE_EQUAL = 0.9995
"""Correlation of thumbnails under which pixels are not compared."""


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Images that show the same picture."""

    rows: tuple[int, ...]
    """In the order in which they would be kept, the largest first: only the first is."""
    how: How
    """How the least alike of them are."""
    score: float
    """Least correlation of those that were found by it."""
    splits: tuple[str, ...]
    """That they are in; several: a leak."""
    labels: tuple[int, ...]
    """That they have; several: all but one are wrong, or the classes are one."""

    @property
    def is_leak(self) -> bool:
        """Whether what is measured is also trained on, or two measured splits share it."""
        return len(self.splits) > 1


def find_duplicates(
    catalogue: Catalogue,
    looks: Looks,
    pairs: NDArray[np.int64],
    match: Match,
    equal_bytes: NDArray[np.int64],
) -> list[Duplicates]:
    """The groups, leaks first, then the largest.

    Args:
        catalogue: the images.
        looks: of them.
        pairs: (p, 2) rows that were compared.
        match: what came of it.
        equal_bytes: (e, 2) rows with equal bytes, which join all of them.
    """
    least_score = np.where(match.fullness < SCANTY, NEAR_SCANTY, NEAR)
    is_near = (match.scores >= least_score) & (match.colours <= MOST_COLOUR)
    near, scores = pairs[is_near], match.scores[is_near]
    equal_pixels = _equal_pixels(catalogue, looks, near[scores >= _MAYBE_EQUAL])
    bytes_groups = joined(len(catalogue), equal_bytes)
    pixel_groups = joined(len(catalogue), np.concatenate([equal_bytes, equal_pixels]))
    all_groups = joined(len(catalogue), np.concatenate([equal_bytes, near]))
    least = np.ones(len(catalogue))
    np.minimum.at(least, all_groups[near[:, 0]], scores)
    splits, labels = catalogue.column("split").to_pylist(), catalogue.labels
    area = looks.shapes.prod(axis=1)
    sizes = catalogue.column("size").to_numpy()
    found = []
    for rows in _members(all_groups):
        how: How = "copy"
        if len(np.unique(bytes_groups[rows])) == 1:
            how = "equal bytes"
        elif len(np.unique(pixel_groups[rows])) == 1:
            how = "equal pixels"
        kept = np.lexsort((rows, -sizes[rows], -area[rows]))
        found.append(
            Duplicates(
                rows=tuple(rows[kept].tolist()),
                how=how,
                score=float(least[all_groups[rows[0]]]),
                splits=tuple(sorted({str(splits[row]) for row in rows})),
                labels=tuple(np.unique(labels[rows]).tolist()),
            )
        )
    return sorted(found, key=lambda group: (not group.is_leak, -len(group.rows), group.rows))


def least_doubtful_first(groups: list[Duplicates], doubts: NDArray[np.float64]) -> list[Duplicates]:
    """The ``groups`` with what is kept chosen by ``doubts`` (n,) of labels, in tenths."""
    coarse = doubts.round(1)
    return [
        dataclasses.replace(group, rows=tuple(sorted(group.rows, key=lambda row: coarse[row])))
        for group in groups
    ]


def joined(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the smallest row that each of ``count`` rows is joined with by ``pairs`` (p, 2)."""
    parent = np.arange(count)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for first, second in pairs.tolist():
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.array([root(row) for row in range(count)], dtype=np.int64)


def _members(groups: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
    """Rows of each group of at least two."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows) > 1]


def _equal_pixels(
    catalogue: Catalogue, looks: Looks, pairs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of ``pairs`` (p, 2) whose decoded images are equal, pixel by pixel."""
    reader = ImageReader(catalogue)
    found = [
        (first, second)
        for first, second in pairs.tolist()
        if looks.digests[first] == looks.digests[second]
        or (
            (looks.shapes[first] == looks.shapes[second]).all()
            and _pixels(reader, first) == _pixels(reader, second)
        )
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _pixels(reader: ImageReader, row: int) -> bytes:
    return open_image(reader.read_one(row)).tobytes()
