"""Results on the screen: tables of a few queries, and a word about all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apdist.retrieval.querying.results import SearchResults
from apdist_verbs.terminal.console import counted, say, table, warn

MOST_TABLES = 3
"""Queries of which each has a table of its own."""
MOST_ROWS = 20
"""Queries that one table shows the best result of."""
MOST_REASONS = 5


@dataclass
class Shown:
    """Counts all queries, and keeps as many as are shown.

    Args:
        k: results asked for.
        num_images: that may be found.
        least_score: results of a lower one are left out.
    """

    k: int
    num_images: int
    least_score: float = -1.0
    num_queries: int = 0
    num_short: int = 0
    num_answered: int = 0
    num_full: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)
    kept: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)

    def add(self, results: SearchResults) -> None:
        """Take the results of the next queries."""
        self.num_queries += len(results)
        self.num_short += results.num_short
        self.num_answered += results.num_answered
        self.num_full += len(results) - results.num_short
        self.unread += results.unread
        if len(self.kept) < MOST_ROWS:
            self.kept += list(results.by_query())[: MOST_ROWS - len(self.kept)]

    def end(self) -> None:
        """Nothing is left to be done."""

    @property
    def num_given(self) -> int:
        """Queries, those that could not be read among them."""
        return self.num_queries + len(self.unread)

    def refuse_none(self) -> None:
        """Refuse to end well where no query could be read.

        Raises:
            ValueError: none could.
        """
        if self.num_queries or not self.unread:
            return
        name, reason = self.unread[0]
        if len(self.unread) == 1:
            raise ValueError(f"the query image {name} {reason}; give another, or mend this one")
        raise ValueError(
            f"none of the {len(self.unread)} query images could be read; the first: {name} {reason}"
        )

    def print_tables(self, where: str) -> None:
        """Show the results of few queries, or the best ones of more.

        Args:
            where: what was searched.
        """
        if self.num_queries <= MOST_TABLES:
            for query, found in self.kept:
                if found:
                    table(f"{query} in {where}", *_ranked(found))
                else:
                    say(f"{query}: no result in {where}")
            return
        columns, rows = _ranked([one for _, found in self.kept for one in found[:1]])
        answers = iter(rows)
        lines = [
            [query, str(len(found)), *(next(answers)[1:] if found else [""] * (len(columns) - 1))]
            for query, found in self.kept
        ]
        table(f"the best result in {where}", ["query", "results", *columns[1:]], lines)
        if left := self.num_queries - len(self.kept):
            say(f"and {counted(left, 'query', 'queries')} more: --csv, --json or --html has all")

    def print_counts(self) -> None:
        """Say what was found, and what is missing."""
        summary, notes = self.told()
        for line in (summary, *notes):
            say(line)
        for name, reason in self.unread[:MOST_REASONS]:
            warn(f"{name} {reason}")
        if len(self.unread) > MOST_REASONS:
            warn(f"and {len(self.unread) - MOST_REASONS} more")

    def told(self) -> tuple[str, list[str]]:
        """A line about all queries, and lines about what is missing."""
        queries = counted(self.num_queries, "query", "queries")
        notes = []
        if self.least_score > -1:
            what = f"of cosine {self.least_score:g} or more"
            notes.append(f"{self.num_answered} of {queries} with a result {what}")
            if self.num_full:
                notes.append(
                    f"{self.num_full} of {queries} with all {self.k} results {what}: a larger -k "
                    "may find more"
                )
        elif self.num_short:
            which = f"{self.num_short} of {queries} with " if self.num_queries > 1 else ""
            notes.append(
                f"{which}fewer than the {self.k} results asked for: only "
                f"{counted(self.num_images, 'image')} can be found"
            )
        if self.unread:
            notes.append(f"{len(self.unread)} of {self.num_given} queries could not be read")
        return f"{queries} among {counted(self.num_images, 'image')}", notes


def _ranked(found: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns and the rows of a table of results."""
    wanted = {"rank": "rank", "score": "score", "label_name": "class", "index": "index"}
    image = "source" if any(one.get("source") for one in found) else "key"
    names = [n for n in wanted if any(one.get(n) not in (None, "") for one in found)]
    rows = [
        [f"{one[n]:.4f}" if n == "score" else str(one.get(n, "")) for n in names]
        + [str(one.get(image, ""))]
        for one in found
    ]
    return [*(wanted[n] for n in names), "image"], rows
