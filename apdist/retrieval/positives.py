"""The positives of some queries, and scores that come out the same on every device.

The score of a pair is the inner product of its float32 descriptors, summed in float64 and rounded
to float32. Sums in another order round to the same score, so neither tiles nor workers nor the
device change a rank. Equal scores count against the query: a positive ranks behind every image that
is none and scores the same, so that the order of the files changes nothing either.

Shapes: n database images, d descriptor size, t queries and c images in a tile, p positives of the
query in the tile that has the most, m known rows of all queries.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Positives(NamedTuple):
    """The positives of a tile's queries, best first, and what else is no negative of theirs."""

    scores: Tensor
    """(t, p) float32."""
    rows: Tensor
    """(t, p) their rows in the database."""
    counts: Tensor
    """(t,) how many there are: beyond them scores and rows are padding."""
    known: Tensor
    """(m,) database rows that are no negatives; those of a query lie together, ascending."""
    first: Tensor
    """(t,) where the rows of the query begin in `known`."""
    end: Tensor
    """(t,) where they end."""


def best_first(
    scores: Tensor, rows: Tensor, real: Tensor, known: tuple[Tensor, Tensor, Tensor]
) -> Positives:
    """Positives with these ``scores`` and ``rows`` (t, p), where they are ``real`` (t, p)."""
    # Stable, so that one set of rows always comes in one order.
    order = scores.masked_fill(~real, -torch.inf).argsort(dim=1, descending=True, stable=True)
    counts = real.sum(dim=1)
    return Positives(scores.gather(1, order), rows.gather(1, order), counts, *known)


def score_tile(queries: Tensor, images: Tensor) -> Tensor:
    """Scores (t, c) of ``queries`` (t, d) with all ``images`` (c, d)."""
    return (queries.double() @ images.double().T).float()
