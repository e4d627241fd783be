"""Figures of classes and pairs of classes that are taken for each other."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from apdist.report.classes import class_figures, class_table, confused_pairs

LABELS = np.array([5, 5, 5, 2, 2, 9, 7, 7])
NAMES = {2: "two", 5: "five", 7: "seven", 9: "nine"}
PRECISION = np.array([0.5, 0.25, 1.0, 0.75, 0.5, math.nan, 1.0, 1.0])
FIRST = np.array([3, 4, 0, 4, 5, 0, 7, 6])


def test_pairs_are_counted_as_one_by_one() -> None:
    found = confused_pairs(LABELS, PRECISION, FIRST)
    assert [(p.label, p.other, p.count, p.num_queries) for p in found] == [
        (5, 2, 2, 3),
        (2, 9, 1, 2),
    ]
    assert (found[0].row, found[0].first) == (1, 4)  # the lowest AP of the two
    random = np.random.default_rng(1)
    labels, first = random.integers(0, 9, 300), random.integers(0, 300, 300)
    precision = random.random(300)
    slow = Counter(
        (int(labels[q]), int(labels[first[q]])) for q in range(300) if labels[q] != labels[first[q]]
    )
    fast = confused_pairs(labels, precision, first)
    assert {(p.label, p.other): p.count for p in fast} == slow
    assert [p.count for p in fast] == sorted(slow.values(), reverse=True)
    for pair in fast:
        rows = np.flatnonzero((labels == pair.label) & (labels[first] == pair.other))
        assert precision[pair.row] == precision[rows].min()


def test_a_class_has_the_mean_of_its_queries_and_what_it_is_most_confused_with() -> None:
    pairs = confused_pairs(LABELS, PRECISION, FIRST)
    before = np.where(np.isnan(PRECISION), math.nan, 0.7)
    rows = class_figures(LABELS, NAMES, PRECISION, before, pairs)
    assert [row.name for row in rows] == ["five", "two", "seven", "nine"]
    five, two, seven, nine = rows
    assert five.average_precision == pytest.approx(7 / 12)
    assert five.change == pytest.approx(7 / 12 - 0.7)
    assert (five.num_images, five.num_queries) == (3, 3)
    assert (five.confused_with, five.num_confused) == (2, 2)
    assert five.first_right == pytest.approx(1 / 3)
    assert two.first_right == 0.5
    assert (seven.confused_with, seven.first_right) == (None, 1.0)
    assert (nine.num_images, nine.num_queries) == (1, 0)
    assert (nine.average_precision, nine.change, nine.first_right) == (None, None, None)


def test_ten_thousand_classes_list_their_ends_and_those_that_are_shown() -> None:
    labels = np.repeat(np.arange(10_000), 2)
    precision = np.linspace(0, 1, 20_000)
    names = {label: str(label) for label in range(10_000)}
    rows = class_figures(labels, names, precision, None, ())
    table = class_table(rows, names, num_each=200, also={5000, 3})
    assert [row.label for row in table.rows] == [*range(200), 5000, *range(9_800, 10_000)]
    assert table.num_classes == 10_000
    assert len(table.names) == 401
    assert class_table(rows[:5], names, num_each=200, also=()).labels == set(range(5))
