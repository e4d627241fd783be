"""Queries and their ranked results as HTML, hits and misses told apart by sign, word and colour."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)

# On a wide screen; on a narrow one the results wrap.
_MOST_COLUMNS = 10


@dataclass(frozen=True, kw_only=True)
class RankedImage:
    """A result of a query."""

    image: bytes
    """Encoded PNG, JPEG, GIF or WebP."""
    label: str
    """Name of its class."""
    score: float
    """Cosine similarity to the query."""
    is_hit: bool
    """Whether it shows the query's instance."""
    key: str
    """Where it comes from."""


@dataclass(frozen=True, kw_only=True)
class RankedQuery:
    """A query and the top of its ranked list."""

    image: bytes
    """Encoded PNG, JPEG, GIF or WebP."""
    label: str
    """Name of its class."""
    key: str
    """Where it comes from."""
    average_precision: float
    """AP over the whole database, not only the results shown."""
    results: tuple[RankedImage, ...]
    """Best first."""
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


def render_gallery(gallery: Iterable[RankedQuery]) -> str:
    """The queries in their order, under a heading wherever the group changes."""
    parts = []
    for group, queries in groupby(gallery, key=lambda query: query.group):
        heading = f"<h3>{text(group)}</h3>" if group else ""
        parts.append(heading + "".join(map(_render_query, queries)))
    return "".join(parts)


def text(value: object) -> str:
    """``value`` as HTML text; a file name's undecodable bytes become question marks."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def data_uri(image: bytes) -> str:
    """An encoded image as a data URI.

    Raises:
        ValueError: neither PNG, JPEG, GIF nor WebP.
    """
    for signature, media_type in _SIGNATURES:
        if image.startswith(signature):
            return f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"
    raise ValueError(
        f"expected an encoded PNG, JPEG, GIF or WebP, got {len(image)} bytes that start with "
        f"{image[:8]!r}; encode the image first"
    )


def _render_query(query: RankedQuery) -> str:
    columns = min(max(len(query.results), 1), _MOST_COLUMNS)
    hits = sum(result.is_hit for result in query.results)
    results = "".join(_render_result(place, r) for place, r in enumerate(query.results, start=1))
    return (
        '<article class="query card"><div class="asked">'
        f'<img src="{data_uri(query.image)}" alt="Query: {text(query.label)}" '
        f'title="{text(query.key)}"><div class="about"><p class="tag">Query</p>'
        f'<h4 dir="auto">{text(query.label)}</h4>'
        f'<p class="ap">AP <b>{query.average_precision:.3f}</b></p>'
        f'<meter min="0" max="1" value="{query.average_precision:.3f}" '
        f'aria-label="average precision">{query.average_precision:.3f}</meter>'
        f'<p class="hits">{hits} of {len(query.results)} shown are hits</p></div></div>'
        f'<ol class="results" style="--columns:{columns}">{results}</ol></article>'
    )


def _render_result(place: int, result: RankedImage) -> str:
    outcome, sign = ("hit", "✓") if result.is_hit else ("miss", "✗")
    return (
        f'<li class="{outcome}"><div class="frame"><img src="{data_uri(result.image)}" '
        f'alt="Result {place}, {outcome}: {text(result.label)}" title="{text(result.key)}">'
        f'<span class="mark" aria-hidden="true">{sign}</span></div>'
        f'<p class="score"><span class="place">{place}</span> {result.score:.3f}</p>'
        f'<p class="label" dir="auto" title="{text(result.label)}">{text(result.label)}</p></li>'
    )
