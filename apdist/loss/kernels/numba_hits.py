"""Where the pairs lie that are no negatives: few, and known from the labels before any score.

Shapes: n images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from apdist.loss.kernels.numba_types import (
    LEFT_OUT,
    POSITIVE,
    POSITIVE_ITSELF,
    Groups,
    Hits,
    compiled,
)
from apdist.loss.tiles import Pairs


def groups_of(pairs: Pairs) -> Groups:
    """Images sorted by class and by ignore id."""
    labels, ignore = pairs.labels.numpy(), pairs.ignore.numpy()
    classes = _runs(labels, np.ones(len(labels), bool))
    grouped = np.logical_and(pairs.has_junk, ignore >= 0)
    return Groups(*classes, *_runs(ignore, grouped), pairs.include_self)


def _runs(ids: Any, grouped: Any) -> tuple[Any, Any, Any]:
    """Order by id, and for each image where its id starts and stops; empty if not ``grouped``."""
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    start = np.searchsorted(in_order, ids, side="left")
    stop = np.searchsorted(in_order, ids, side="right")
    return order.astype(np.int64), start, np.where(grouped, stop, start)


@compiled
def find_hits(shape: tuple[int, int], origin: tuple[int, int], groups: Groups) -> Hits:
    """Pairs that are no negatives in the strip of this ``shape`` at ``origin`` (row, column)."""
    first, last = origin[1], origin[1] + shape[1]
    room = 0
    for i in range(origin[0], origin[0] + shape[0]):
        start, stop = _class_run(i, first, last, groups)
        room += stop - start
        start, stop = _junk_run(i, first, last, groups)
        room += stop - start
    hits = Hits(np.zeros(shape[0] + 1, np.int64), np.empty(room, np.int32), np.empty(room, np.int8))
    num_hits = 0
    for i in range(origin[0], origin[0] + shape[0]):
        start, stop = _class_run(i, first, last, groups)
        for j in groups.class_order[start:stop]:
            itself = POSITIVE_ITSELF if groups.include_self else LEFT_OUT
            hits.columns[num_hits] = j - first
            hits.kinds[num_hits] = POSITIVE if j != i else itself
            num_hits += 1
        start, stop = _junk_run(i, first, last, groups)
        for j in groups.junk_order[start:stop]:
            if groups.class_start[j] != groups.class_start[i]:
                hits.columns[num_hits] = j - first
                hits.kinds[num_hits] = LEFT_OUT
                num_hits += 1
        hits.start[i - origin[0] + 1] = num_hits
    return hits


@compiled
def _class_run(i: int, first: int, last: int, groups: Groups) -> tuple[int, int]:
    """Part of the sorted order with the images of i's class among columns first to last."""
    start, stop = groups.class_start[i], groups.class_stop[i]
    start = _at_or_after(first, groups.class_order, start, stop)
    return start, _at_or_after(last, groups.class_order, start, stop)


@compiled
def _junk_run(i: int, first: int, last: int, groups: Groups) -> tuple[int, int]:
    """The same for the images that share i's ignore id."""
    start, stop = groups.junk_start[i], groups.junk_stop[i]
    start = _at_or_after(first, groups.junk_order, start, stop)
    return start, _at_or_after(last, groups.junk_order, start, stop)


@compiled
def _at_or_after(value: int, order: Any, start: int, stop: int) -> int:
    """First place in the ascending run order[start:stop] that is not below ``value``."""
    while start < stop:
        middle = (start + stop) // 2
        if order[middle] < value:
            start = middle + 1
        else:
            stop = middle
    return start
