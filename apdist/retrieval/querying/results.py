"""What was found for each query: a table of results, best first, and what was missed.

Sizes: q queries, r results of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

OWN_COLUMNS = ("number", "query", "rank", "score")
"""Place of the query among those that were given, from 0; its name; rank, from 1; cosine.

A column of the entries with one of these names is called `image_` and that."""

_DIGITS = 6


def told_score(score: float) -> float:
    """A score as programs are told it; rounding may have made a cosine a little over 1."""
    return round(score, _DIGITS)


@dataclass(frozen=True, eq=False, repr=False)
class SearchResults:
    """Queries in their order, and the results of each, best first."""

    k: int
    """Results that were asked for, of each query."""
    queries: tuple[str, ...]
    """(q,) names of those that were searched for."""
    numbers: tuple[int, ...]
    """(q,) places of these among the queries that were given, from 0."""
    num_found: tuple[int, ...]
    """(q,) results of each."""
    table: pa.Table
    """(r) rows: number, query, rank, score, and what the index tells of the image."""
    unread: tuple[tuple[str, str], ...] = ()
    """Names of the queries that could not be read, and why."""

    def __len__(self) -> int:
        """Queries that were searched for."""
        return len(self.queries)

    def __repr__(self) -> str:
        words = [f"{len(self)} queries, k={self.k}, {self.table.num_rows} results"]
        words += [f"{self.num_short} with fewer than k"] * (self.num_short > 0)
        words += [f"{len(self.unread)} more could not be read"] * bool(self.unread)
        return f"<SearchResults: {', '.join(words)}>"

    @property
    def num_short(self) -> int:
        """Queries with fewer results than were asked for."""
        return sum(number < self.k for number in self.num_found)

    @property
    def num_answered(self) -> int:
        """Queries with a result."""
        return sum(number > 0 for number in self.num_found)

    def by_query(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The name of each query, and its results."""
        starts = accumulate(self.num_found, initial=0)
        for query, start, number in zip(self.queries, starts, self.num_found, strict=False):
            yield query, self.table.slice(start, number).to_pylist()

    def to_pylist(self) -> list[dict[str, Any]]:
        """A dict for each result."""
        return list(self.table.to_pylist())

    def to_pandas(self) -> pd.DataFrame:
        """A row for each result."""
        return self.table.to_pandas()


def results_of(
    k: int,
    queries: tuple[Sequence[int], Sequence[str]],
    found: tuple[Tensor, Tensor],
    entries: pa.Table,
    *,
    own: Tensor | None = None,
    least_score: float = -1.0,
    unread: Iterable[tuple[str, str]] = (),
) -> SearchResults:
    """The first ``k`` results of each query that count.

    Args:
        k: most of them.
        queries: (q,) their numbers and names.
        found: (q, j) scores, falling, and rows of ``entries``; a row of -1 is none.
        entries: what the index tells of its images.
        own: (q,) row of each query itself, which is no result.
        least_score: others do not count.
        unread: queries that could not be read, and why.
    """
    scores, rows = found
    counts = (rows >= 0) & (scores >= least_score)
    if own is not None:
        counts &= rows != own[:, None]
    counts &= counts.cumsum(dim=1) <= k  # (q, j)
    of_query = counts.nonzero()[:, 0]  # (r,)
    ranks = counts.cumsum(dim=1)[counts]
    about = entries.take(pa.array(rows[counts].numpy()))
    about = about.rename_columns(
        [f"image_{name}" if name in OWN_COLUMNS else name for name in about.schema.names]
    )
    numbers, names = (pa.array(values) for values in queries)
    own_columns = [
        numbers.cast(pa.int64()).take(pa.array(of_query.numpy())),
        names.cast(pa.string()).take(pa.array(of_query.numpy())),
        pa.array(ranks.int().numpy()),
        pa.array(scores[counts].float().numpy()),
    ]
    table = pa.table([*own_columns, *about.columns], names=[*OWN_COLUMNS, *about.schema.names])
    return SearchResults(
        k,
        tuple(queries[1]),
        tuple(queries[0]),
        tuple(counts.sum(dim=1).tolist()),
        table,
        tuple(unread),
    )


def joined(parts: Sequence[SearchResults]) -> SearchResults:
    """One after the other, of the same k."""
    return SearchResults(
        parts[0].k,
        tuple(query for part in parts for query in part.queries),
        tuple(number for part in parts for number in part.numbers),
        tuple(number for part in parts for number in part.num_found),
        pa.concat_tables([part.table for part in parts]),
        tuple(unread for part in parts for unread in part.unread),
    )
