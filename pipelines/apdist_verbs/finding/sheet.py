"""The contact sheet of a search: thumbnails are made as results come, until the page is full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from apdist.report.contact_sheet import (
    Asked,
    ContactSheet,
    Found,
    Thumbnails,
    render_contact_sheet,
    thumbnail,
)
from apdist.retrieval.querying.entry_images import image_of, place_of
from apdist.retrieval.querying.results import SearchResults
from apdist_verbs.terminal.console import counted

NUM_THREADS = 8
"""That read and shrink: a server is waited for."""
Read = Callable[[], bytes]


class Sheet:
    """Keeps what the page shows.

    Args:
        read_query: the encoded picture of a query, by its number among those that were given.
    """

    def __init__(self, read_query: Callable[[int], bytes]) -> None:
        self._read_query, self._count = read_query, 0
        self.thumbnails, self.asked = Thumbnails(), list[Asked]()

    def add(self, results: SearchResults) -> None:
        """Take the results of the next queries, as long as there is room."""
        for number, (query, found) in zip(results.numbers, results.by_query(), strict=True):
            self._count += 1
            if self.thumbnails.is_full:
                continue
            own = f"query {number}"
            self._make({own: partial(self._read_query, number), **_reads(found)})
            self.thumbnails.write_about(1 + len(found))
            self.asked.append(
                Asked(
                    name=query,
                    picture=self.thumbnails.number(own),
                    results=tuple(self._found(one) for one in found),
                )
            )

    def end(self) -> None:
        """Nothing is left to be done."""

    def page(self, title: str, summary: str, notes: Iterable[str]) -> str:
        """The page as text."""
        more = list(notes)
        if len(self.asked) < self._count:
            more.append(
                f"The page is full: it shows the first {len(self.asked)} of {self._count} queries."
            )
        if failed := self.thumbnails.num_failed:
            more.append(f"{counted(failed, 'picture')} could not be read.")
        return render_contact_sheet(
            ContactSheet(
                title=title,
                summary=summary,
                notes=tuple(more),
                queries=tuple(self.asked),
                thumbnails=self.thumbnails,
            )
        )

    def _make(self, reads: Mapping[str, Read]) -> None:
        """Thumbnails of the pictures that have none yet."""
        todo = {key: read for key, read in reads.items() if not self.thumbnails.is_known(key)}
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for key, uri in zip(todo, pool.map(_shrunk, todo.values()), strict=True):
                self.thumbnails.add(key, uri)

    def _found(self, one: Mapping[str, Any]) -> Found:
        return Found(
            picture=self.thumbnails.number(place_of(one)),
            rank=one["rank"],
            score=one["score"],
            label=_text(one, "label_name"),
            key=_text(one, "key"),
            file=_text(one, "source"),
            index=_text(one, "index"),
        )


def _reads(found: Iterable[Mapping[str, Any]]) -> dict[str, Read]:
    return {place_of(one): partial(image_of, one) for one in found}


def _text(one: Mapping[str, Any], name: str) -> str:
    value = one.get(name)
    return "" if value is None else str(value)


def _shrunk(read: Read) -> str:
    try:
        return thumbnail(read())
    except (OSError, ValueError):  # gone since it was indexed, or no picture any more
        return ""
