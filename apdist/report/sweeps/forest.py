"""Extremely randomised trees over the unit cube, as boxes with values.

Geurts, Ernst, Wehenkel, "Extremely randomized trees" (2006): each node draws one cut for each
column and takes the one that explains most, so a tree of some forty rows takes a millisecond.

Shapes: n rows, d columns, l leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEWEST = 4
"""Rows that a node needs to be cut; of many rows a fifteenth: that bounds leaves and time."""


@dataclass(frozen=True)
class Tree:
    """Boxes that fill the unit cube."""

    low: Floats
    """(l, d)"""
    high: Floats
    """(l, d)"""
    values: Floats
    """(l,)"""

    def predict(self, points: Floats) -> Floats:
        """Values (n,) at ``points`` (n, d)."""
        is_in = (points[:, None] >= self.low) & (points[:, None] < self.high)  # (n, l, d)
        found: Floats = self.values[is_in.all(axis=2).argmax(axis=1)]
        return found

    def shares(self) -> tuple[Floats, float]:
        """Variance of each column's main effect (d,), and that of all, over the uniform cube.

        The main effect of column j at x is the mean of the tree over all other columns (Hutter,
        Hoos, Leyton-Brown, "An efficient approach for assessing hyperparameter importance", 2014):

            effect_j(x) = sum over leaves that hold x in column j of
                value * product over the other columns of the leaf's width
        """
        widths = self.high - self.low  # (l, d)
        volumes = widths.prod(axis=1)  # (l,)
        mean = float(volumes @ self.values)
        parts = np.zeros(widths.shape[1])
        for column in range(len(parts)):
            edges = np.unique(np.concatenate([self.low[:, column], self.high[:, column]]))
            middles = (edges[1:] + edges[:-1]) / 2  # (g,) where nothing changes between two edges
            holds = (self.low[:, column, None] <= middles) & (middles < self.high[:, column, None])
            effect = (self.values * volumes / widths[:, column]) @ holds  # (g,)
            parts[column] = np.diff(edges) @ (effect - mean) ** 2
        return parts, float(volumes @ (self.values - mean) ** 2)


def grow(points: Floats, values: Floats, cells: Floats, random: np.random.Generator) -> Tree:
    """A tree of ``values`` (n,) at ``points`` (n, d) in [0, 1).

    Args:
        points: a row for each of the values.
        values: what it explains.
        cells: (d,) in how many equal cells a column is divided; 0: it is continuous.
        random: draws the cuts.
    """
    boxes = []
    waiting = [(points, values, np.zeros(points.shape[1]), np.ones(points.shape[1]))]
    fewest = max(FEWEST, len(values) // 15)
    while waiting:
        points, values, low, high = waiting.pop()
        cut = _best_cut(points, values, cells, random) if len(values) >= fewest else None
        if cut is None:
            boxes.append((low, high, values.sum() / len(values)))
            continue
        column, at = cut
        is_below = points[:, column] < at
        below_high, above_low = high.copy(), low.copy()
        below_high[column] = above_low[column] = at
        waiting.append((points[is_below], values[is_below], low, below_high))
        waiting.append((points[~is_below], values[~is_below], above_low, high))
    return Tree(*(np.array(part) for part in zip(*boxes, strict=True)))


def _best_cut(
    points: Floats, values: Floats, cells: Floats, random: np.random.Generator
) -> tuple[int, float] | None:
    """Column and place; None where the rows are alike."""
    least, most = points.min(axis=0), points.max(axis=0)
    cuts = least + random.random(len(cells)) * (most - least)  # (d,)
    # Rows lie in the middle of their cells: between the first and the last are their borders.
    counts = np.maximum(cells, 1)
    first, last = np.floor(least * counts), np.floor(most * counts)
    borders = first + 1 + np.floor(random.random(len(cells)) * (last - first))
    cuts = np.where(cells > 0, borders / counts, cuts)
    is_below = points < cuts  # (n, d)
    below = is_below.sum(axis=0)
    above = len(values) - below
    # The rest lacks what they have: of values about their mean both sides' sums differ by the sign.
    sums = (values - values.sum() / len(values)) @ is_below  # (d,)
    gains = sums**2 / np.maximum(below * above, 1)  # of squares, divided by n; 0 for an empty side
    column = int(gains.argmax())
    is_cut = gains[column] > 0 and below[column] and above[column]
    return (column, float(cuts[column])) if is_cut else None
