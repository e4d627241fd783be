"""Labels that the neighbours of an image disagree with, and classes that are one.

Shapes: n images, k neighbours of each, c classes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TEMPERATURE = 0.05
"""Cosine similarity by which a neighbour's vote falls to 1 / e of that of the nearest one."""
SIZE_POWER = 0.5
"""Votes are divided by the size of their class to this power: many images are near by number."""
SUSPICIOUS = 0.95
"""Share of the votes for another class, of those and the own, from which on a label is doubted."""
FEWEST_OTHERS = 2
"""Images that a class needs beside one for its label to be judged."""
MIXED_AMONG = 5
"""Nearest images of two classes by which it is judged whether they are one."""
ALIKE = 0.65
"""Of what it would be by chance: votes for the other class at which two classes are one."""


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A label that neighbours disagree with."""

    row: int
    label: int
    suggested: int
    confidence: float
    """Share of the votes for the suggested class, of those and the own."""
    witnesses: tuple[int, ...]
    """Rows of the nearest images of the suggested class."""


@dataclass(frozen=True, kw_only=True)
class OneClass:
    """Two classes that cannot be told apart."""

    first: int
    second: int
    mixing: float
    """How often images are each other's neighbours, the lesser of both ways; 1: as by chance."""
    examples: tuple[tuple[int, int], ...]
    """Rows of an image of the first and its nearest of the second."""


@dataclass(frozen=True)
class Votes:
    """What the neighbours of every image say."""

    own: NDArray[np.float64]
    """(n,) share of the votes for its own label."""
    best: NDArray[np.int64]
    """(n,) the other class with most votes; -1: none."""
    best_votes: NDArray[np.float64]
    """(n,) share of the votes for that class."""

    @property
    def doubts(self) -> NDArray[np.float64]:
        """(n,) share of the votes for the other class, of those and the own."""
        total = self.own + self.best_votes
        return np.divide(self.best_votes, total, out=np.zeros_like(total), where=total > 0)


def vote(scores: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Votes:
    """Votes of the nearest images, weighed by how near they are and by the size of their class.

        for each neighbour of class c: exp((s - s of the nearest) / T) / (images of c)^0.5

    Args:
        scores: (n, k) of the nearest other images, best first, duplicates aside; NaN for none.
        rows: (n, k) of these; -1 for none.
        labels: (n,).
    """
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    values = np.unique(labels)
    others = codes[rows]
    near = np.where(np.isnan(scores), -np.inf, scores)
    weights = np.exp((near - near.max(axis=1, keepdims=True, initial=-1)) / TEMPERATURE)
    is_own = others == codes[:, None]
    # An image is none of its own class's others.
    there = sizes[others] - is_own
    weights /= np.maximum(there, 1) ** SIZE_POWER
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    own = (weights * is_own).sum(axis=1)
    best, best_votes = np.full(len(labels), -1), np.zeros(len(labels))
    for place in range(rows.shape[1]):
        total = (weights * (others == others[:, place, None])).sum(axis=1)
        is_better = ~is_own[:, place] & (weights[:, place] > 0) & (total > best_votes)
        best[is_better], best_votes[is_better] = values[others[is_better, place]], total[is_better]
    return Votes(own, best, best_votes)


def suspicious_labels(
    votes: Votes,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    one_classes: list[OneClass],
) -> list[Suspicion]:
    """Labels that are doubted, the most doubted first; none between classes that are one.

    Args:
        votes: `vote`.
        rows: (n, k) of the nearest other images, as they voted.
        labels: (n,).
        one_classes: `classes_that_are_one`.
    """
    doubts = votes.doubts
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    is_judged = sizes[codes] > FEWEST_OTHERS
    same = {frozenset((pair.first, pair.second)) for pair in one_classes}
    found = np.flatnonzero(is_judged & (votes.best >= 0) & (doubts >= SUSPICIOUS))
    order = np.lexsort((found, -votes.best_votes[found], -doubts[found]))
    return [
        Suspicion(
            row=row,
            label=int(labels[row]),
            suggested=int(votes.best[row]),
            confidence=float(doubts[row]),
            witnesses=tuple(
                rows[row][(rows[row] >= 0) & (labels[rows[row]] == votes.best[row])][:3].tolist()
            ),
        )
        for row in found[order].tolist()
        if frozenset((int(labels[row]), int(votes.best[row]))) not in same
    ]


def classes_that_are_one(
    scores: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[OneClass]:
    """Pairs of classes whose images are each other's neighbours about as often as by chance.

        mixing of a with b: for each image of a the share of b in the nearest 5 (or as many as a
        has others) that are of a or b, over the share that b has of all of these; the mean

    Args:
        scores: (n, k) of the nearest other images, best first, duplicates aside; NaN for none.
        rows: (n, k) of these.
        labels: (n,).
    """
    values, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    others = np.where(np.isnan(scores), -1, codes[rows])
    most = np.minimum(MIXED_AMONG, sizes[codes] - 1)
    is_own = others == codes[:, None]
    own_before = is_own.cumsum(axis=1) - is_own
    shares: dict[tuple[int, int], float] = defaultdict(float)
    for place in range(others.shape[1]):
        other = others[:, place]
        before = own_before[:, place] + (others[:, :place] == other[:, None]).sum(axis=1)
        counted = np.flatnonzero((other >= 0) & ~is_own[:, place] & (before < most))
        pairs, times = np.unique(
            np.stack([codes[counted], other[counted]], axis=1), axis=0, return_counts=True
        )
        for (label, its_other), count in zip(pairs.tolist(), times.tolist(), strict=True):
            shares[label, its_other] += count
    found = []
    for (first, second), count in shares.items():
        if first < second and min(sizes[first], sizes[second]) > FEWEST_OTHERS:
            counts = ((first, second, count), (second, first, shares.get((second, first), 0.0)))
            mixing = min(_mixing(sizes, *each) for each in counts)
            if mixing >= ALIKE:
                found.append((mixing, first, second))
    return [
        OneClass(
            first=int(values[first]),
            second=int(values[second]),
            mixing=mixing,
            examples=_examples(others, rows, codes, first, second),
        )
        for mixing, first, second in sorted(found, reverse=True)
    ]


def _mixing(sizes: NDArray[np.int64], label: int, other: int, count: float) -> float:
    """Over what it would be by chance: how often ``other`` was among the nearest of ``label``."""
    own = int(sizes[label]) - 1
    expected = sizes[other] / (sizes[other] + own)
    return float(count / (min(MIXED_AMONG, own) * sizes[label]) / expected)


def _examples(
    others: NDArray[np.int64],
    rows: NDArray[np.int64],
    codes: NDArray[np.int64],
    first: int,
    second: int,
    count: int = 3,
) -> tuple[tuple[int, int], ...]:
    """Images of the first with their nearest of the second, those at the best places first."""
    members = np.flatnonzero((codes == first) & (others == second).any(axis=1))
    places = (others[members] == second).argmax(axis=1)
    chosen = np.argsort(places, kind="stable")[:count]
    return tuple((int(members[i]), int(rows[members[i], places[i]])) for i in chosen)
