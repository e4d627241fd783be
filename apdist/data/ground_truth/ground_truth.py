"""Judged queries: which images of a database are right, which are junk, where the query is cut."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from apdist.data.images import Box
from apdist.given import keys_of, of_kind

Protocol: TypeAlias = Literal["revisited", "classic", "holidays", "landmarks", "ilias", "own"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
"""Those that a ground truth can ask for."""
JUDGEMENTS = ("positives", "easy", "hard", "junk")
WITH_BOXES = ("revisited", "classic")
"""Protocols in which a query is a part of its image."""


@dataclass(frozen=True, kw_only=True)
class JudgedQuery:
    """A query and what is known of the database; images are named by their keys."""

    key: str
    """The query image."""
    box: Box | None = None
    """Left, top, right, bottom in pixels of the image: the part that is the query. None: all."""
    positives: tuple[str, ...] = ()
    """Right answers, where these are of one kind."""
    easy: tuple[str, ...] = ()
    """Right answers that are easy to find."""
    hard: tuple[str, ...] = ()
    """Right answers that are hard to find."""
    junk: tuple[str, ...] = ()
    """Images that are neither right nor wrong: removed before ranks are counted."""

    def __post_init__(self) -> None:
        for name in JUDGEMENTS:
            given = keys_of(f"query {self.key!r}: {name}", getattr(self, name))
            object.__setattr__(self, name, tuple(given))
        if self.box is not None:
            self._check_box(self.box)
        twice = [key for key, times in Counter(self.judged()).items() if times > 1]
        if twice:
            raise ValueError(
                f"query {self.key!r}: image {twice[0]!r} is judged twice; name it once, in one list"
            )

    def _check_box(self, box: Box) -> None:
        try:
            left, top, right, bottom = map(float, () if isinstance(box, str) else box)
        except (TypeError, ValueError):
            left = top = right = bottom = math.nan
        is_finite = all(map(math.isfinite, (left, top, right, bottom)))
        if not (is_finite and left < right and top < bottom):
            raise ValueError(
                f"query {self.key!r}: box must be left < right, top < bottom; got {box!r:.60}"
            )

    def judged(self) -> Iterator[str]:
        """Keys of all images that are judged."""
        for name in JUDGEMENTS:
            yield from getattr(self, name)


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Judged queries, and the protocol by which they are scored."""

    protocol: Protocol
    """What is counted, and how."""
    queries: tuple[JudgedQuery, ...]
    """In the order of the file."""

    def __post_init__(self) -> None:
        given = self.queries if isinstance(self.queries, list | tuple) else [self.queries]
        how = "give several JudgedQuery(key=..., positives=...)"
        queries = tuple(of_kind("a query", query, JudgedQuery, how) for query in given)
        object.__setattr__(self, "queries", queries)
        if self.protocol not in PROTOCOLS:
            raise ValueError(
                f"protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}"
            )
        if not self.queries:
            raise ValueError("expected queries, found none; check the file")
        kinds = {name for query in self.queries for name in JUDGEMENTS if getattr(query, name)}
        if not kinds - {"junk"}:
            raise ValueError(
                f"none of the {len(self.queries)} queries has a positive; check the file"
            )
        if "positives" in kinds and kinds & {"easy", "hard"}:
            raise ValueError(
                "expected positives of one kind or easy and hard ones, found both; keep one"
            )
        if self.is_graded and self.protocol not in ("revisited", "own"):
            raise ValueError(
                f"{self.protocol} knows positives of one kind, found easy and hard ones; "
                "the protocol with these is revisited"
            )
        if self.protocol == "revisited" and not self.is_graded:
            raise ValueError("revisited needs easy and hard positives, found positives of one kind")
        self._check_queries()

    def _check_queries(self) -> None:
        twice = Counter((query.key, query.box) for query in self.queries).most_common(1)[0]
        if twice[1] > 1:
            raise ValueError(f"query {twice[0][0]!r} is there {twice[1]} times; leave it in once")
        for query in self.queries:
            if query.box is None and self.protocol in WITH_BOXES:
                raise ValueError(
                    f"query {query.key!r} has no box: {self.protocol} describes queries cut at "
                    "their boxes, and uncropped ones inflate every figure; add the boxes"
                )
            if query.key in query.positives and self.protocol != "classic":
                raise ValueError(
                    f"query {query.key!r} is its own positive, which every model finds; take it out"
                )

    @property
    def is_graded(self) -> bool:
        """Whether positives are easy or hard."""
        return any(query.easy or query.hard for query in self.queries)
