"""Counts of the negatives before each positive, and nearest rows, on the threads of the CPU.

Products in float32 are twice as fast as in float64 and wrong by less than a known bound: only a
score that is as near to a positive's needs the float64 sum. Where very many are that near, as with
a network that describes all images alike, the whole tile is multiplied in float64.

Shapes: t queries and c images in a tile, r of its queries in a strip, n database images,
d descriptor size, p positives, q queries in all, k results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.retrieval import rank_kernels as kernels
from apdist.retrieval.positives import Positives, score_tile
from apdist.threads import on_threads

# Relative error of one float32 operation, and the smallest number with all its digits.
_ROUNDING, _SMALLEST = 2.0**-24, 2.0**-126
# With more than a score in so many to sum alone, the tile in float64 is faster.
_SCORES_PER_SUM = 16
# Strips beyond the number of threads even out their times.
_STRIPS_PER_THREAD = 4


def exact_scores(queries: Tensor, database: Tensor, rows: Tensor) -> Tensor:
    """Scores (t, p) of ``queries`` (t, d) with the ``rows`` (t, p) of the ``database`` (n, d)."""
    scores = np.empty(tuple(rows.shape), np.float32)
    arrays = queries.numpy(), database.numpy(), rows.numpy()

    def score(strip: slice) -> None:
        kernels.score_rows(arrays[0][strip], arrays[1], arrays[2][strip], scores[strip])

    on_threads(score, _strips(len(rows)))
    return torch.from_numpy(scores)


class Counter:
    """Counts for a tile of ``queries`` (t, d), image after image of the database."""

    def __init__(self, queries: Tensor, positives: Positives) -> None:
        self.queries, self.positives = queries, positives
        self.lengths = queries.norm(dim=1).double().numpy()
        self.is_exact = False
        """Whether tiles are multiplied in float64, because float32 left too much open."""
        self.found = np.zeros(tuple(positives.scores.shape), np.int64)
        self.strips = _strips(len(queries))

    def add(self, images: Tensor, left: int, longest: float, buffer: Tensor) -> None:
        """Count ``images`` (c, d), of which the first is row ``left``.

        Args:
            images: descriptors.
            left: row of the first of them.
            longest: length of the longest of them.
            buffer: room for scores (t, c).
        """
        counts: list[Any] = [None]
        if not self.is_exact:
            shape = (len(self.queries), len(images))
            products = buffer[: shape[0] * shape[1]].view(shape)
            scores = torch.mm(self.queries, images.T, out=products).numpy()
            margins = _margins(images.shape[1], self.lengths, longest)
            counts = self._count(scores, margins, images, left)
        if any(part is None for part in counts):
            self.is_exact = True
            scores = score_tile(self.queries, images).numpy()
            margins = np.zeros(len(scores), np.float32)
            counts = self._count(scores, margins, images, left)
        for strip, part in zip(self.strips, counts, strict=True):
            self.found[strip] += part

    def _count(
        self,
        scores: NDArray[Any],
        margins: NDArray[Any],
        images: Tensor,
        left: int,
    ) -> list[Any]:
        """For each strip the counts (r, p), None where too many scores are within the margins."""
        arrays = [values.numpy() for values in self.positives]
        best, _, numbers, known, first, end = arrays

        def count(strip: slice) -> Any:
            part, found = scores[strip], np.zeros((len(scores[strip]), best.shape[1]), np.int64)
            kernels.leave_out(part, left, known, first[strip], end[strip])
            done = kernels.count_before(
                part,
                margins[strip],
                (self.queries[strip].numpy(), images.numpy()),
                (best[strip], numbers[strip]),
                part.size // _SCORES_PER_SUM,
                found,
            )
            return found if done else None

        return on_threads(count, self.strips)


def negatives_before(
    tiles: Sequence[tuple[Tensor, Positives]], images: Iterable[tuple[int, Tensor]]
) -> list[Tensor]:
    """How many images that are not known to a query rank before each of its positives, (t, p)."""
    counters = [Counter(queries, positives) for queries, positives in tiles]
    _add_all(counters, images)
    return [torch.from_numpy(counter.found) for counter in counters]


class _Nearest:
    """The nearest images so far of a tile of ``queries`` (t, d), in heaps (t, k)."""

    def __init__(self, queries: Tensor, k: int) -> None:
        self.queries = queries
        self.lengths = queries.norm(dim=1).double().numpy()
        self.scores = np.full((len(queries), k), -np.inf, np.float32)
        self.rows = np.full((len(queries), k), -1, np.int64)
        self.strips = _strips(len(queries))

    def add(self, images: Tensor, left: int, longest: float, buffer: Tensor) -> None:
        """Look at ``images`` (c, d); arguments as those of `Counter.add`."""
        shape = (len(self.queries), len(images))
        products = buffer[: shape[0] * shape[1]].view(shape)
        scores = torch.mm(self.queries, images.T, out=products).numpy()
        margins = _margins(images.shape[1], self.lengths, longest)
        pair = self.queries.numpy(), images.numpy()

        def keep(strip: slice) -> None:
            heaps = self.scores[strip], self.rows[strip]
            part = pair[0][strip], pair[1]
            kernels.keep_nearest(scores[strip], margins[strip], part, left, heaps)

        on_threads(keep, self.strips)


def nearest(
    tiles: Sequence[Tensor], images: Iterable[tuple[int, Tensor]], k: int
) -> tuple[Tensor, Tensor]:
    """Scores and rows (q, k) of the nearest ``images``, in any order; row -1 for none.

    Args:
        tiles: all queries (q, d), in parts (t, d).
        images: descriptors (c, d) and the row of the first of them, ascending.
        k: results per query.
    """
    found = [_Nearest(queries, k) for queries in tiles]
    _add_all(found, images)
    scores = np.concatenate([tile.scores for tile in found])
    rows = np.concatenate([tile.rows for tile in found])
    return torch.from_numpy(scores), torch.from_numpy(rows)


def _add_all(
    tiles: Sequence[Counter] | Sequence[_Nearest], images: Iterable[tuple[int, Tensor]]
) -> None:
    """Let every tile see all ``images``."""
    most = max((len(tile.queries) for tile in tiles), default=0)
    buffer = torch.empty(0)
    for left, part in images:
        if buffer.numel() < most * len(part):
            # One for all tiles: memory that is new for each of them costs page faults.
            buffer = torch.empty(most * len(part))
        longest = float(kernels.longest_square(part.numpy())) ** 0.5
        for tile in tiles:
            tile.add(part, left, longest, buffer)


def _margins(size: int, lengths: NDArray[Any], longest: float) -> NDArray[Any]:
    """(t,) how far a float32 product may be from the score, whatever the order of its sum."""
    # The product, the score's own rounding and those of the margin itself: 8 is generous.
    margins = (size + 8) * (_ROUNDING * lengths * longest + _SMALLEST)
    return np.asarray(margins, np.float32)


def _strips(num_queries: int) -> list[slice]:
    """Parts of the queries for the threads."""
    height = max(1, -(-num_queries // (torch.get_num_threads() * _STRIPS_PER_THREAD)))
    return [slice(top, top + height) for top in range(0, num_queries, height)]
