"""Queries and their ranked results, and which of them are worth a look."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from apdist.report.pictures import Picture


@dataclass(frozen=True, kw_only=True)
class RankedImage(Picture):
    """A result of a query."""

    score: float
    """Cosine similarity to the query."""
    is_hit: bool
    """Whether it shows the query's instance."""


@dataclass(frozen=True, kw_only=True)
class RankedQuery(Picture):
    """A query and the top of its ranked list."""

    average_precision: float
    """AP over the whole database, not only the results shown."""
    results: tuple[RankedImage, ...]
    """Best first."""
    row: int
    """By which the page links to it."""
    before: float | None = None
    """AP before training; None where it was not measured."""
    group: str = ""
    """Heading that it appears under, e.g. "Worst queries"."""


def choose_queries(average_precision: Tensor, *, num_each: int) -> list[tuple[str, int]]:
    """Heading and row of up to ``num_each`` worst, median and best queries, none twice.

    Args:
        average_precision: (q,) NaN where undefined: such queries are never chosen.
        num_each: queries per heading.
    """
    order = average_precision.sort(stable=True).indices  # NaN sorts last
    order = order[: int((~average_precision.isnan()).sum())]
    middle = max(0, len(order) // 2 - num_each // 2)
    wanted = (
        ("Worst queries", order[:num_each]),
        ("Median queries", order[middle : middle + num_each]),
        ("Best queries", order.flip(0)[:num_each]),
    )
    chosen: dict[int, str] = {}
    for heading, rows in wanted:
        for row in rows.tolist():
            chosen.setdefault(row, heading)
    return [(heading, row) for row, heading in chosen.items()]


def first_others(rows: Tensor, ranked: Tensor) -> Tensor:
    """(q,) the first of each ranked list (q, 2) that is not the query itself.

    Args:
        rows: (q,) of the queries among the images that are ranked.
        ranked: (q, 2) rows, best first. Of images that are described alike the query itself may
            be the second or, behind two others, not among them.
    """
    return ranked[:, 0].where(ranked[:, 0] != rows, ranked[:, 1])
