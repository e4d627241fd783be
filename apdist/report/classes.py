"""Which classes are found and which are taken for which.

Shapes: n images, each of them a query against the rest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apdist.report.pictures import Picture


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """How well the images of a class find one another."""

    label: int
    name: str
    num_images: int
    num_queries: int
    """Images that have another one to find."""
    average_precision: float | None
    """Mean over its queries; None without one."""
    before: float | None
    """The same before training; None where it was not measured."""
    first_right: float | None
    """R@1: share of its queries whose first result is of the class."""
    confused_with: int | None
    """Class of most first results of its queries that are wrong."""
    num_confused: int
    """Queries with such a first result."""

    @property
    def change(self) -> float | None:
        """Below 0: training made it worse."""
        if self.before is None or self.average_precision is None:
            return None
        return self.average_precision - self.before


@dataclass(frozen=True)
class ConfusedPair:
    """Queries of a class whose first result is of another one."""

    label: int
    other: int
    count: int
    num_queries: int
    """Of the class, with or without such a result."""
    row: int
    """The query of them with the lowest AP."""
    first: int
    """Row of what it finds first."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A confused pair as the page shows it."""

    label: int
    name: str
    other: int
    other_name: str
    count: int
    num_queries: int
    query: Picture
    result: Picture


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Classes that the page lists."""

    rows: tuple[ClassFigures, ...]
    """Worst first, those without a query last."""
    names: dict[int, str]
    """Names of the classes in ``rows``, by label."""
    num_classes: int
    """Number of classes in all, shown or not."""
    num_each: int
    """So many of the worst and of the best are listed, and others that the page shows."""

    @property
    def labels(self) -> frozenset[int]:
        """Of its rows, to which links lead."""
        return frozenset(row.label for row in self.rows)


def confused_pairs(
    labels: NDArray[np.int64],
    average_precision: NDArray[np.float64],
    first: NDArray[np.int64],
) -> list[ConfusedPair]:
    """Pairs of classes by the queries of the one that rank the other first, most first.

    Args:
        labels: (n,) class of each image.
        average_precision: (n,) NaN for a query without a positive, which does not count.
        first: (n,) row of each query's first result.
    """
    counted = ~np.isnan(average_precision)
    known, codes = np.unique(labels, return_inverse=True)
    totals = np.bincount(codes[counted], minlength=len(known))
    wrong = np.flatnonzero(counted & (labels != labels[first]))
    wrong = wrong[np.argsort(average_precision[wrong], kind="stable")]
    pairs = codes[wrong] * len(known) + codes[first[wrong]]
    found, places, counts = np.unique(pairs, return_index=True, return_counts=True)
    shares = counts / np.maximum(totals[found // len(known)], 1)
    return [
        ConfusedPair(
            label=int(known[found[place] // len(known)]),
            other=int(known[found[place] % len(known)]),
            count=int(counts[place]),
            num_queries=int(totals[found[place] // len(known)]),
            row=int(wrong[places[place]]),
            first=int(first[wrong[places[place]]]),
        )
        for place in np.lexsort((-shares, -counts)).tolist()
    ]


def class_figures(
    labels: NDArray[np.int64],
    names: dict[int, str],
    average_precision: NDArray[np.float64],
    before: NDArray[np.float64] | None,
    pairs: Sequence[ConfusedPair],
) -> list[ClassFigures]:
    """Every class, worst first, those without a query last.

    Args:
        labels: (n,) class of each image.
        names: of every class.
        average_precision: (n,) NaN for a query without a positive.
        before: the same before training, of the same images.
        pairs: of `confused_pairs`.
    """
    known, codes = np.unique(labels, return_inverse=True)
    images = np.bincount(codes)
    after, totals = _means(codes, average_precision, len(known))
    then = _means(codes, before, len(known))[0] if before is not None else [None] * len(known)
    most: dict[int, ConfusedPair] = {}
    wrong: dict[int, int] = {}
    for pair in pairs:  # most first
        most.setdefault(pair.label, pair)
        wrong[pair.label] = wrong.get(pair.label, 0) + pair.count
    found = [
        ClassFigures(
            label=label,
            name=names[label],
            num_images=int(images[code]),
            num_queries=totals[code],
            average_precision=after[code],
            before=then[code],
            first_right=1 - wrong.get(label, 0) / totals[code] if totals[code] else None,
            confused_with=most[label].other if label in most else None,
            num_confused=most[label].count if label in most else 0,
        )
        for code, label in enumerate(known.tolist())
    ]
    return sorted(
        found, key=lambda c: math.inf if c.average_precision is None else c.average_precision
    )


def class_table(
    figures: Sequence[ClassFigures],
    names: dict[int, str],
    *,
    num_each: int,
    also: Collection[int],
) -> ClassTable:
    """The ``num_each`` worst and best classes, and those that the page shows elsewhere."""
    last = len(figures) - num_each
    rows = tuple(
        row
        for place, row in enumerate(figures)
        if place < num_each or place >= last or row.label in also
    )
    named = {row.label for row in rows} | {r.confused_with for r in rows if r.num_confused}
    return ClassTable(
        rows=rows,
        names={label: names[label] for label in named if label is not None},
        num_classes=len(figures),
        num_each=num_each,
    )


def _means(
    codes: NDArray[np.int64], values: NDArray[np.float64], size: int
) -> tuple[list[float | None], list[int]]:
    """Mean of the values that are numbers, of each code, and how many they are."""
    known = ~np.isnan(values)
    counts = np.bincount(codes[known], minlength=size).tolist()
    sums = np.bincount(codes[known], weights=values[known], minlength=size).tolist()
    return [s / c if c else None for s, c in zip(sums, counts, strict=True)], counts
