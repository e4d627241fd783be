"""The positives of some queries, and scores that come out the same on every device.

Shapes: n database images, d descriptor size, t queries and c images in a tile, p positives of the
query in the tile that has the most.
"""

from typing import NamedTuple

from torch import Tensor


class Positives(NamedTuple):
    """The positives of a tile's queries, best first, and how to find all with a query's label."""

    scores: Tensor
    """(t, p) float32."""
    rows: Tensor
    """(t, p) their rows in the database."""
    counts: Tensor
    """(t,) how many there are: beyond them scores and rows are padding."""
    rows_by_label: Tensor
    """(n,) database rows, those of a label together and ascending."""
    first: Tensor
    """(t,) where the rows of the query's label begin in `rows_by_label`."""
    end: Tensor
    """(t,) where they end."""


def score_tile(queries: Tensor, images: Tensor) -> Tensor:
    """Scores (t, c) of ``queries`` (t, d) with all ``images`` (c, d)."""
    return (queries.double() @ images.double().T).float()
