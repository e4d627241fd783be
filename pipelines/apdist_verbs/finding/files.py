"""Results as CSV and JSON, query after query: to a file, whole or not at all, or to the output."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

from apdist.data import storage
from apdist.retrieval.querying.results import SearchResults, told_score

OUTPUT = "-"
"""In place of a file: the standard output."""
_BYTES = {"shard", "offset", "size", "number"}
"""Columns that tell where an image's bytes lie, and the place of a query: of no use to a person."""


class Taker(Protocol):
    """Takes results as they come."""

    def add(self, results: SearchResults) -> None:
        """Take the results of the next queries."""

    def end(self) -> None:
        """Finish: no more results come."""


class CsvWriter:
    """A row for each result, below a row of names."""

    def __init__(self, target: IO[str]) -> None:
        self._writer = csv.writer(target, lineterminator="\n")
        self._names: list[str] = []

    def add(self, results: SearchResults) -> None:
        """Write the results of the next queries."""
        if not self._names:
            self._names = [n for n in results.table.schema.names if n not in _BYTES]
            self._writer.writerow(self._names)
        for row in results.table.select(self._names).to_pylist():
            self._writer.writerow(_rounded(row).values())

    def end(self) -> None:
        """Nothing stands below the rows."""


class JsonWriter:
    """A list with an object for each query, on a line of its own."""

    def __init__(self, target: IO[str]) -> None:
        self._target, self._count = target, 0

    def add(self, results: SearchResults) -> None:
        """Write the results of the next queries, and why some have none."""
        for query, found in results.by_query():
            rows = [
                {k: v for k, v in _rounded(row).items() if k not in _BYTES and k != "query"}
                for row in found
            ]
            self._write({"query": query, "results": rows})
        for query, reason in results.unread:
            self._write({"query": query, "error": reason})

    def end(self) -> None:
        """Close the list."""
        self._target.write("\n]\n" if self._count else "[]\n")

    def _write(self, item: dict[str, Any]) -> None:
        text = json.dumps(item, ensure_ascii=False, default=str)
        self._target.write(f"{',' if self._count else '['}\n{text}")
        self._count += 1


@contextmanager
def opened_target(uri: str) -> Iterator[IO[str]]:
    """A text file at ``uri`` that is there when the block has ended well; or the output."""
    if uri == OUTPUT:
        yield sys.stdout
        sys.stdout.flush()
        return
    with (
        storage.local_target(storage.absolute(uri)) as path,
        path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file
        file.flush()


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Scores as programs are told them; what is no number is nothing."""
    for name, value in row.items():
        if isinstance(value, float):
            row[name] = told_score(value) if name == "score" else value
            if not math.isfinite(value):
                row[name] = None
    return row
