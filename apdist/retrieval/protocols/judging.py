"""The keys of a ground truth as rows of a database.

Shapes: q queries, n database images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apdist.data.ground_truth.ground_truth import (
    JUDGEMENTS,
    WITH_BOXES,
    GroundTruth,
    JudgedQuery,
)
from apdist.given import of_kind

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class JudgedRows:
    """What is known of the database to a query, as rows of it."""

    positives: tuple[int, ...]
    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]
    """With the query itself, where it is in the database and not judged to be a positive."""

    def of(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Rows of the lists of these names."""
        return tuple(row for name in names for row in getattr(self, name))

    @property
    def all(self) -> tuple[int, ...]:
        """Rows of all lists: what else is in the database is wrong."""
        return self.of(JUDGEMENTS)


def rows_of_keys(ground_truth: GroundTruth, database: Sequence[str]) -> list[JudgedRows]:
    """The judged rows of each query, in the order of the ground truth.

    Args:
        ground_truth: names images by their keys.
        database: (n,) keys of the database images, by row.

    Raises:
        ValueError: a key is not in the database, or several images there have it.
    """
    of_kind(
        "ground_truth", ground_truth, GroundTruth, "make one of JudgedQuery, or read_ground_truth"
    )
    rows = {key: row for row, key in enumerate(database)}
    judged = dict.fromkeys(key for query in ground_truth.queries for key in query.judged())
    refuse_missing(list(judged), rows, "judges", "the database")
    if len(rows) < len(database):
        twice = [key for row, key in enumerate(database) if rows[key] != row and key in judged]
        if twice:
            raise ValueError(
                f"the database has several images with the key {twice[0]!r}, which the ground "
                "truth judges; give images keys of their own: prepare them again"
            )
    return [_rows(query, rows) for query in ground_truth.queries]


def _rows(query: JudgedQuery, rows: Mapping[str, int]) -> JudgedRows:
    found = {name: tuple(rows[key] for key in getattr(query, name)) for name in JUDGEMENTS}
    # Every model finds the query's own picture first: it is no answer, right or wrong.
    if query.key in rows and query.key not in set(query.judged()):
        found["junk"] += (rows[query.key],)
    return JudgedRows(**found)


def own_rows(ground_truth: GroundTruth, database: Sequence[str]) -> list[int]:
    """(q,) row of each query's own picture that is taken out of the ranks, -1 for none; or empty.

    Of revisited and classic it is empty, too: their queries are parts of their pictures.

    Args:
        ground_truth: names images by their keys.
        database: (n,) keys of the database images, by row.
    """
    if ground_truth.protocol in WITH_BOXES:
        return []
    rows = {key: row for row, key in enumerate(database)}
    judged = rows_of_keys(ground_truth, database)
    own = [rows.get(query.key, -1) for query in ground_truth.queries]
    found = [row if row in known.junk else -1 for row, known in zip(own, judged, strict=True)]
    return found if max(found) >= 0 else []


def refuse_missing(keys: list[str], there: Mapping[str, int], verb: str, where: str) -> None:
    """Refuse keys that are not ``there``.

    Raises:
        ValueError: the first of them, how many, and what is there in their place.
    """
    missing = [key for key in keys if key not in there]
    if missing:
        listed = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        has = ", ".join(map(repr, list(there)[:_SHOWN])) or "no image"
        raise ValueError(
            f"the ground truth {verb} {len(keys)} {'image' if len(keys) == 1 else 'images'}, "
            f"{len(missing)} of them not in {where}: {listed}; there: {len(there)} images, {has}, "
            "...; give the ground truth of these images (names are separated by | or ;), or the "
            "split that has them"
        )
