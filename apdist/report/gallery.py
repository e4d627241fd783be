"""Queries and their ranked results, and which of them are worth a look."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from torch import Tensor

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


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
