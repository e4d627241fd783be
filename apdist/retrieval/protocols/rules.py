"""What is counted of one ranked list: a function for each figure of a protocol.

A list is known by the ranks of its positives, ascending and counted from 0 after junk has been
taken out, and by how many positives there are; those without a rank were never found. What each
figure counts is said in words in `apdist/figures.py`.

Shapes: p positives that have a rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from apdist.arrays import Array, count_of, rows_of, shown

Ranks: TypeAlias = NDArray[np.int64]
Rule: TypeAlias = Callable[[Ranks, int], float]
_MOST = np.iinfo(np.int64).max


def rule(key: str) -> Rule:
    """The rule of a figure: one of `RULES`, or of `RULES_AT` behind whose name stands ``_at_K``."""
    if key in RULES:
        return RULES[key]
    name, _, depth = key.rpartition("_at_")
    return lambda ranks, num_positives: RULES_AT[name](ranks, num_positives, int(depth))


def average_precision(ranks: Array, num_positives: int) -> float:
    """Mean over the positives of the precision at their rank; 0 for those never found."""
    ranks, num_positives = _checked(ranks, num_positives)
    return float(_precisions(ranks).sum() / num_positives)


def trapezoid_average_precision(ranks: Array, num_positives: int) -> float:
    """Area under the precision-recall curve by the trapezoid rule, from ascending ``ranks``.

        mean over positives of the precision before it and at it, halved:
            (i / rank_i + (i + 1) / (rank_i + 1)) / 2       with i / rank_i = 1 at rank 0

    A single positive at rank 1 scores 0.25, where the sum rule says 0.5.

    Raises:
        ValueError: the ranks do not rise, or there are more of them than positives.
    """
    ranks, num_positives = _checked(ranks, num_positives)
    before = np.where(ranks == 0, 1.0, np.arange(len(ranks)) / np.maximum(ranks, 1))
    return float((before + _precisions(ranks)).sum() / 2 / num_positives)


def _average_precision_at(ranks: Ranks, num_positives: int, k: int) -> float:
    return float(_precisions(ranks)[ranks < k].sum() / min(num_positives, k))


def _average_precision_at_r(ranks: Ranks, num_positives: int) -> float:
    return _average_precision_at(ranks, num_positives, num_positives)


def _r_precision(ranks: Ranks, num_positives: int) -> float:
    return float((ranks < num_positives).sum() / num_positives)


def _reciprocal_rank(ranks: Ranks, _num_positives: int) -> float:
    return float(1 / (ranks[0] + 1)) if len(ranks) else 0.0


def _recall_at(ranks: Ranks, _num_positives: int, k: int) -> float:
    return float(len(ranks) > 0 and ranks[0] < k)


def _precision_at(ranks: Ranks, _num_positives: int, k: int) -> float:
    """Share of positives among the first min(k, 1 + last rank); 0 when none was found."""
    if not len(ranks):
        return 0.0
    depth = min(k, int(ranks[-1]) + 1)
    return float((ranks < depth).sum() / depth)


RULES: dict[str, Rule] = {
    "map": average_precision,
    "map_trapezoid": trapezoid_average_precision,
    "map_at_r": _average_precision_at_r,
    "r_precision": _r_precision,
    "mean_reciprocal_rank": _reciprocal_rank,
}
RULES_AT: dict[str, Callable[[Ranks, int, int], float]] = {
    "map": _average_precision_at,
    "recall": _recall_at,
    "precision": _precision_at,
}


def _precisions(ranks: Ranks) -> NDArray[np.float64]:
    """(p,) precision at the rank of each positive."""
    return np.asarray((np.arange(len(ranks)) + 1) / (ranks + 1))


def _checked(ranks: Array, num_positives: int) -> tuple[Ranks, int]:
    found = rows_of("ranks", ranks, _MOST)
    if np.any(np.diff(found) < 0):
        raise ValueError(f"ranks must rise, got {shown(found.tolist())}")
    return found, count_of("num_positives", num_positives, max(1, len(found)))
