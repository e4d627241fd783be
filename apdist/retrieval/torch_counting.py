"""Negatives before each positive on any device: tiles in float64, one search of thresholds each.

Shapes: t queries and c images in a tile, n database images, d descriptor size, p positives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from apdist.retrieval.positives import Positives, score_tile

# Bounds what is gathered to score the positives.
_NUMBERS_AT_ONCE = 1 << 22


def exact_scores(queries: Tensor, database: Tensor, rows: Tensor) -> Tensor:
    """Scores (t, p) of ``queries`` (t, d) with the ``rows`` (t, p) of the ``database`` (n, d)."""
    scores = torch.empty(rows.shape, device=rows.device)
    doubled = queries.double()[:, :, None]  # (t, d, 1)
    step = max(1, _NUMBERS_AT_ONCE // queries.numel())
    for left in range(0, rows.shape[1], step):
        images = database[rows[:, left : left + step]].double()  # (t, step, d)
        scores[:, left : left + step] = (images @ doubled)[:, :, 0]
    return scores


def negatives_before(
    tiles: Sequence[tuple[Tensor, Positives]], images: Iterable[tuple[int, Tensor]]
) -> list[Tensor]:
    """How many images that are not known to a query rank before each of its positives, (t, p)."""
    counters = [_Counter(queries, positives) for queries, positives in tiles]
    for left, part in images:
        for counter in counters:
            counter.add(part, left)
    return [counter.counts[:, :-1].cumsum(dim=1) for counter in counters]


class _Counter:
    """Counts for a tile of ``queries`` (t, d), part after part of what is searched."""

    def __init__(self, queries: Tensor, positives: Positives) -> None:
        self.queries = queries
        places = torch.arange(positives.scores.shape[1], device=queries.device)
        # Ascending, with padding behind all scores.
        thresholds = (-positives.scores).masked_fill(places >= positives.counts[:, None], torch.inf)
        self.thresholds = thresholds.contiguous()
        shape = (len(queries), thresholds.shape[1] + 1)
        self.counts = torch.zeros(shape, dtype=torch.int64, device=queries.device)
        first, end, known = positives.first, positives.end, positives.known
        offsets = torch.arange(int((end - first).max()), device=queries.device)
        within = first[:, None] + offsets
        self.known = known[within.clamp(max=max(0, len(known) - 1))]  # (t, known of a query)
        self.known = self.known.masked_fill(within >= end[:, None], -1)

    def add(self, images: Tensor, left: int) -> None:
        """Count ``images`` (c, d), of which the first is row ``left``."""
        keys = -score_tile(self.queries, images)  # (t, c)
        columns = self.known - left
        outside = (columns < 0) | (columns >= len(images))
        # One column more takes what lies outside of the tile.
        mask = torch.zeros((len(keys), len(images) + 1), dtype=torch.bool, device=keys.device)
        mask.scatter_(1, columns.masked_fill(outside, len(images)), True)
        keys.masked_fill_(mask[:, :-1], torch.inf)
        # A search of c keys in p thresholds and a histogram: no sort, c log p and not c p. The
        # first positive that an image ranks before is the first with its score or a lower one.
        interval = torch.searchsorted(self.thresholds, keys)
        self.counts.scatter_add_(1, interval, torch.ones_like(interval))
