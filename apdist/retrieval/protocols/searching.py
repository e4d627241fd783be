"""Scores of descriptors, by the protocol of a ground truth: ranks by counting, nothing is sorted.

What a score is, and that equal ones count against the query, is said in `../positives.py`.

Shapes: q queries, n database images, d descriptor size, t queries and c images in a tile, p
positives of the query in the tile that has the most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.arrays import LONGEST, Array, descriptor_parts_of, descriptors_of, same_width, tensor_of
from apdist.data.ground_truth.ground_truth import JUDGEMENTS, GroundTruth
from apdist.given import keys_of
from apdist.retrieval.positives import Positives, best_first
from apdist.retrieval.protocols.judging import JudgedRows, rows_of_keys
from apdist.retrieval.protocols.rules import Ranks
from apdist.retrieval.protocols.scores import JudgedScores, score_parts
from apdist.retrieval.ranks import database_tiles, exact_scores, negatives_before, query_slices

_POSITIVES = tuple(name for name in JUDGEMENTS if name != "junk")


def score_judged(
    queries: Array,
    database: Array,
    keys: Sequence[str],
    ground_truth: GroundTruth,
    *,
    distractors: Iterable[Array] = (),
) -> list[JudgedScores]:
    """Scores of each part: easy, medium and hard, or all.

    Args:
        queries: (q, d) descriptors of the queries of ``ground_truth``, in its order; those with a
            box of what is in the box.
        database: (n, d) descriptors, by inner product.
        keys: (n,) keys of the database images.
        ground_truth: judged queries.
        distractors: more descriptors (m, d) that are right for no query, part by part: gone through
            once, and only one part is in memory.

    Raises:
        ValueError: shapes do not match, a descriptor is not finite, images are judged that are not
            in the database, or no query of a part has a positive.
    """
    keys = keys_of("keys", keys)
    judged = rows_of_keys(ground_truth, keys)
    found = descriptors_of("database", database, least=1).float().contiguous()
    asked = descriptors_of("queries", queries, least=1).float().to(found.device).contiguous()
    same_width(("queries", "the database"), asked, found)
    for name, rows, number in (("queries", asked, len(judged)), ("database", found, len(keys))):
        if len(rows) != number:
            raise ValueError(f"{name}: expected {number} descriptors, one a key, got {len(rows)}")
    before = _negatives_before(asked, found, judged, _more(distractors, found))

    def ranks_of(number: int, positives: tuple[int, ...], _junk: tuple[int, ...]) -> Ranks:
        rows, negatives = before[number]
        ranks = negatives[np.isin(rows, positives)]
        # Before a positive are negatives, and the positives of this part that score higher.
        return ranks + np.arange(len(ranks))

    return score_parts(ground_truth, judged, ranks_of)


def _more(distractors: Iterable[Array], database: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Parts (c, d) of the distractors."""
    for part in descriptor_parts_of("distractors", distractors):
        rows = tensor_of("distractors", part)
        # One length for all is cheap; where it is usual, so is every row.
        if rows.dtype != torch.float32 or not float(torch.linalg.vector_norm(rows)) <= LONGEST:
            rows = descriptors_of("distractors", rows).float()
        same_width(("distractors", "the database"), rows, database)
        # Behind all rows of the database: no distractor is known to a query.
        yield from database_tiles(rows.to(database.device).contiguous(), len(database))


def _negatives_before(
    queries: Tensor,
    database: Tensor,
    judged: Sequence[JudgedRows],
    more: Iterable[tuple[int, Tensor]],
) -> list[tuple[NDArray[np.int64], Ranks]]:
    """For each query the rows of its positives, best first, and how many negatives are before."""
    sizes = torch.tensor([len(rows.all) for rows in judged])
    tiles = [
        (queries[part], _positives(queries[part], database, judged[part]))
        for part in query_slices(sizes)
    ]
    counted = negatives_before(tiles, chain(database_tiles(database), more))
    found = []
    for (_, positives), before in zip(tiles, counted, strict=True):
        for number, rows, negatives in zip(
            positives.counts.tolist(), positives.rows.cpu(), before.cpu(), strict=True
        ):
            found.append((rows[:number].numpy(), negatives[:number].numpy()))
    return found


def _positives(queries: Tensor, database: Tensor, judged: Sequence[JudgedRows]) -> Positives:
    """The positives of ``queries`` (t, d) of all parts, and what else is judged."""
    listed = [rows.of(_POSITIVES) for rows in judged]
    shape = (len(judged), max(1, *map(len, listed)))
    rows = torch.zeros(shape, dtype=torch.int64)  # (t, p)
    for place, some in zip(rows, listed, strict=True):
        place[: len(some)] = torch.tensor(some, dtype=torch.int64)
    rows = rows.to(database.device)
    counts = torch.tensor([len(some) for some in listed], device=database.device)
    real = torch.arange(shape[1], device=database.device) < counts[:, None]
    ends = torch.tensor([len(rows.all) for rows in judged]).cumsum(0)
    known = torch.tensor([row for rows in judged for row in sorted(rows.all)], dtype=torch.int64)
    first = torch.cat([ends.new_zeros(1), ends[:-1]])
    around = (known.to(rows.device), first.to(rows.device), ends.to(rows.device))
    return best_first(exact_scores(queries, database, rows), rows, real, around)
