"""How much of the differences between settings each parameter explains, and how sure that is.

A forest is grown on settings drawn with replacement, again and again: the spread over these draws
is the uncertainty. What chance alone gives a parameter is the share of its shadow, a copy with the
settings shuffled, in forests that have both (Kursa and Rudnicki, "Feature selection with the Boruta
package", 2010).

Shapes: n settings, d parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apdist.report.sweeps.axes import Axis
from apdist.report.sweeps.forest import Floats, grow
from apdist.report.sweeps.settings import Objective, Setting, value_at

FEWEST = 8
"""Settings below which nothing is said."""
MOST = 200
"""Settings that are looked at: of thousands the first, so that a page takes seconds."""
NEEDED = 0.9
"""Share of the settings that must have come to the step at which they are compared."""
DRAWS = 32
TREES = 5
"""Of a draw."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a parameter explains."""

    axis: Axis
    share: float
    """Of the variance between settings, by itself: median over the draws."""
    low: float
    """Of the middle 90 of 100 draws."""
    high: float
    chance: float
    """What 95 of 100 draws give its shadow at most."""
    is_clear: bool
    """It is more than chance, in a forest that can tell something."""

    @property
    def in_words(self) -> str:
        """For a person who reads, or hears, the page."""
        found = f"{self.share:.0%} ({self.low:.0%} to {self.high:.0%}; chance {self.chance:.0%})"
        return found if self.is_clear else f"{found}, may be chance"


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What all parameters explain."""

    shares: tuple[Share, ...]
    """The most important first; empty where too little was tried."""
    together: float
    """Share of the variance that only several parameters together explain."""
    explained: float
    """Of settings that a forest did not see: R squared; 0 or less: it can tell nothing."""
    num_settings: int
    step: int
    """At which settings are compared."""


def importance_of(
    settings: Sequence[Setting],
    axes: Sequence[Axis],
    objective: Objective,
) -> Importance:
    """The importance of ``axes`` for ``objective``, of settings that got equally far.

    Settings are compared at the latest step that nine in ten of them reached: later, only the good
    ones are left, and what made the others bad cannot be seen.
    """
    step, known = _compared(settings, objective)
    columns = [axis for axis in axes if _varies(axis, known)]
    values = np.array([value for _, value in known])
    if len(known) < FEWEST or not columns or np.ptp(values) == 0:
        return Importance(
            shares=(), together=0.0, explained=0.0, num_settings=len(known), step=step
        )
    random = np.random.default_rng(0)  # the same page for the same record
    points = np.array([[_place(axis, setting) for axis in columns] for setting, _ in known])
    table = _Table(points, columns)
    parts, explained = _drawn(table, values, random)
    shadows, _ = _drawn(table, values, random, has_shadows=True)
    low, middle, high = np.quantile(parts, (0.05, 0.5, 0.95), axis=0)
    chance = np.quantile(shadows[:, len(columns) :], 0.95, axis=0)
    shares = [
        Share(
            axis=axis,
            share=float(middle[column]),
            low=float(low[column]),
            high=float(high[column]),
            chance=float(chance[column]),
            is_clear=explained > 0 and middle[column] > chance[column],
        )
        for column, axis in enumerate(columns)
    ]
    return Importance(
        shares=tuple(sorted(shares, key=lambda share: -share.share)),
        together=max(0.0, 1 - float(parts.sum(axis=1).mean())),
        explained=explained,
        num_settings=len(known),
        step=step,
    )


def _compared(
    settings: Sequence[Setting], objective: Objective
) -> tuple[int, list[tuple[Setting, float]]]:
    """The step, and the settings that reached it with the mean over their repeats then."""
    measured = [setting for setting in settings if setting.values]
    reached = sorted((setting.reached for setting in measured), reverse=True)
    step = reached[math.ceil(NEEDED * len(reached)) - 1] if reached else 0
    known = []
    for setting in sorted(measured, key=lambda setting: setting.number):
        found = [value_at(t, objective.key, step) for t in setting.trials if t.curve]
        values = [value for value in found if value is not None]
        if setting.reached >= step and values:
            known.append((setting, sum(values) / len(values)))
    return step, known[:MOST]


def _varies(axis: Axis, known: Sequence[tuple[Setting, float]]) -> bool:
    return len({_place(axis, setting) for setting, _ in known} - {np.nan}) > 1


def _place(axis: Axis, setting: Setting) -> float:
    place = axis.place(setting.params[axis.name]) if axis.name in setting.params else None
    # A box holds its lower bound and not its upper one.
    return np.nan if place is None else min(place, 1 - 1e-9)


class _Table:
    """The settings as rows for a tree.

    Args:
        points: (n, d), NaN where a setting lacks a parameter.
        axes: of the columns.
    """

    def __init__(self, points: Floats, axes: Sequence[Axis]) -> None:
        self.points = points
        self.cells = np.array([float(len(axis.cells)) for axis in axes])
        self.unordered = np.array([axis.kind == "categories" for axis in axes])

    def with_shadows(self, order: NDArray[np.int64]) -> _Table:
        """With every column once more (n, 2 d), the rows of these in another ``order``."""
        table = _Table(np.hstack([self.points, self.points[order]]), [])
        table.cells, table.unordered = np.tile(self.cells, 2), np.tile(self.unordered, 2)
        return table

    def for_a_tree(self, random: np.random.Generator) -> Floats:
        """(n, d): categories in a random order, and a random value of what a setting lacks.

        What it lacks has no effect on it: any value would have given the same figure.
        """
        anywhere = random.random(self.points.shape)
        in_cells = (np.floor(anywhere * self.cells) + 0.5) / np.maximum(self.cells, 1)
        anywhere = np.where(self.cells > 0, in_cells, anywhere)
        points = np.where(np.isnan(self.points), anywhere, self.points)
        for column in np.flatnonzero(self.unordered):
            count = int(self.cells[column])
            order = random.permutation(count)
            points[:, column] = (order[(points[:, column] * count).astype(int)] + 0.5) / count
        return points


def _drawn(
    table: _Table,
    values: Floats,
    random: np.random.Generator,
    *,
    has_shadows: bool = False,
) -> tuple[Floats, float]:
    """Shares (DRAWS, d) of forests on settings drawn with replacement, and R squared of others."""
    found = []
    sums, counts = np.zeros(len(values)), np.zeros(len(values))
    for _ in range(DRAWS):
        used = table.with_shadows(random.permutation(len(values))) if has_shadows else table
        rows = random.integers(len(values), size=len(values))
        others = np.setdiff1d(np.arange(len(values)), rows)
        parts, total = np.zeros(len(used.cells)), 0.0
        for _ in range(TREES):
            points = used.for_a_tree(random)
            tree = grow(points[rows], values[rows], used.cells, random)
            its_parts, its_total = tree.shares()
            parts, total = parts + its_parts, total + its_total
            sums[others] += tree.predict(points[others])
            counts[others] += 1
        found.append(parts / total if total > 0 else parts)
    seen = counts > 0
    wrong = ((values[seen] - sums[seen] / counts[seen]) ** 2).sum()
    apart = ((values[seen] - values[seen].mean()) ** 2).sum()
    return np.array(found), 1 - float(wrong / apart) if apart > 0 else 0.0
