"""A picture of ranked queries for a README: one row a query, hits and misses framed and marked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from apdist.report.gallery import RankedImage, RankedQuery

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Pixels at twice the size on the page, so that it is crisp on a dense screen.
_TILE, _GAP, _MARGIN, _CAPTION, _FRAME = 160, 28, 36, 44, 7
_QUERY_GAP = 64
_HIT, _MISS, _QUERY = "#157a3c", "#c4281c", "#c9cfda"
_INK, _MUTED, _PAPER = "#16191f", "#565d6b", "#ffffff"


def write_gallery_png(gallery: Iterable[RankedQuery], path: Path) -> None:
    """Write a picture of ``gallery``, whole or not at all.

    Raises:
        ValueError: no query.
    """
    from PIL import Image, ImageDraw

    queries = tuple(gallery)
    if not queries:
        raise ValueError("a picture of ranked queries needs at least one query")
    columns = max(len(query.results) for query in queries)
    width = 2 * _MARGIN + _TILE + _QUERY_GAP + columns * (_TILE + _GAP) - _GAP
    row_height = _TILE + _CAPTION + _GAP
    picture = Image.new("RGB", (width, 2 * _MARGIN + len(queries) * row_height - _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    for row, query in enumerate(queries):
        top = _MARGIN + row * row_height
        _paste(picture, query.image, (_MARGIN, top))
        _draw_frame(draw, (_MARGIN, top), _QUERY)
        caption = f"AP {query.average_precision:.2f}"
        _write(draw, (_MARGIN + _TILE / 2, top + _TILE + 14), caption, _INK, bold=True)
        for place, result in enumerate(query.results):
            left = _MARGIN + _TILE + _QUERY_GAP + place * (_TILE + _GAP)
            _draw_result(picture, draw, result, (left, top))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    picture.save(temporary, format="PNG", optimize=True)
    temporary.replace(path)


def _draw_result(
    picture: Image, draw: ImageDraw, result: RankedImage, corner: tuple[int, int]
) -> None:
    left, top = corner
    colour = _HIT if result.is_hit else _MISS
    _paste(picture, result.image, corner)
    _draw_frame(draw, corner, colour)
    x, y = left - _FRAME, top - _FRAME
    draw.rounded_rectangle((x, y, x + 40, y + 40), radius=14, fill=colour)
    _draw_mark(draw, (x + 20, y + 20), is_hit=result.is_hit)
    _write(draw, (left + _TILE / 2, top + _TILE + 14), f"{result.score:.2f}", _MUTED)


def _draw_frame(draw: ImageDraw, corner: tuple[int, int], colour: str) -> None:
    left, top = corner
    box = (left - _FRAME, top - _FRAME, left + _TILE + _FRAME - 1, top + _TILE + _FRAME - 1)
    draw.rounded_rectangle(box, radius=14, outline=colour, width=_FRAME)


def _draw_mark(draw: ImageDraw, centre: tuple[float, float], *, is_hit: bool) -> None:
    """A tick or a cross of lines, so that it needs no font."""
    x, y = centre
    strokes = (
        [[(x - 9, y + 1), (x - 3, y + 8), (x + 10, y - 8)]]
        if is_hit
        else [[(x - 8, y - 8), (x + 8, y + 8)], [(x - 8, y + 8), (x + 8, y - 8)]]
    )
    for stroke in strokes:
        draw.line(stroke, fill=_PAPER, width=5, joint="curve")


def _paste(picture: Image, image: Image, corner: tuple[int, int]) -> None:
    """Fit an image into a square tile, on the tile's background."""
    from PIL import ImageOps

    picture.paste(ImageOps.pad(image, (_TILE, _TILE), color="#eef1f6"), corner)


def _write(
    draw: ImageDraw, top_middle: tuple[float, float], words: str, colour: str, *, bold: bool = False
) -> None:
    draw.text(top_middle, words, font=_font(bold), fill=colour, anchor="mt")


def _font(bold: bool) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib ships."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, 24)
