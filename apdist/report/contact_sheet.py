"""A contact sheet: queries and what was found for each, as one page that needs no network."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass, field

from apdist.data.images import ImageError
from apdist.report.page import template
from apdist.report.pictures import shrunk

SIDE = 144
"""Longer side of a thumbnail, in pixels: half as many on the page, crisp on a dense screen."""
MOST_BYTES = 12_000_000
"""Of a page: some 250 queries with ten results each, all of them different photographs."""
MARKUP_BYTES = 520
"""Around each picture: its names and their places."""
_QUALITY = 70


@dataclass(frozen=True, kw_only=True)
class Found:
    """A result of a query."""

    picture: int
    """Number of its thumbnail; 0: there is none."""
    rank: int
    score: float
    """Cosine similarity to the query."""
    label: str
    """Name of its class; empty where it has none."""
    key: str
    file: str
    """Where it comes from."""
    index: str
    """Name of its index; empty where there is one alone."""

    @property
    def file_name(self) -> str:
        """What tells it from its neighbours: the end of a path."""
        return self.file.rstrip("/").rpartition("/")[2]

    @property
    def says_more(self) -> bool:
        """Whether the key says anything that the file does not."""
        return bool(self.key) and self.key not in (self.file, os.path.splitext(self.file)[0])


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query and its results, best first."""

    name: str
    picture: int
    """Number of its thumbnail; 0: there is none."""
    results: tuple[Found, ...]


@dataclass
class Thumbnails:
    """Thumbnails of a page, each once, by the key of its picture; 0 is none.

    Args:
        most_bytes: that they may take, with what is written about them.
    """

    most_bytes: int = MOST_BYTES
    uris: list[str] = field(default_factory=list)
    num_bytes: int = 0
    num_failed: int = 0
    """Pictures that could not be read."""
    _numbers: dict[str, int] = field(default_factory=dict)

    def is_known(self, key: str) -> bool:
        """Whether the picture was added before."""
        return key in self._numbers

    def number(self, key: str) -> int:
        """The number of a picture that was added."""
        return self._numbers.get(key, 0)

    @property
    def is_full(self) -> bool:
        """Whether no more may be added."""
        return self.num_bytes >= self.most_bytes

    def write_about(self, number: int) -> None:
        """Count what is written about so many queries and results."""
        self.num_bytes += number * MARKUP_BYTES

    def add(self, key: str, uri: str) -> None:
        """Add a picture; an empty ``uri`` is one that could not be read."""
        if not uri:
            self.num_failed += 1
            self._numbers[key] = 0
            return
        self.uris.append(uri)
        self.num_bytes += len(uri)
        self._numbers[key] = len(self.uris)


@dataclass(frozen=True, kw_only=True)
class ContactSheet:
    """Everything that the page shows."""

    title: str
    summary: str
    notes: tuple[str, ...]
    """What is missing, in words."""
    queries: tuple[Asked, ...]
    thumbnails: Thumbnails


def thumbnail(data: bytes) -> str:
    """A small picture of an encoded image, as a data URI; empty where it cannot be decoded."""
    try:
        image = shrunk(data, SIDE)
    except ImageError:
        return ""
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(target.getvalue()).decode('ascii')}"


def render_contact_sheet(sheet: ContactSheet) -> str:
    """The page as text."""
    return template("contact_sheet.html").render(sheet=sheet)
