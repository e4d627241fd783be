"""The picture of ranked queries."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from apdist.report.report import (
    write_gallery_png,
)
from tests.report.pages import HOSTILE, ranked_query


def test_the_picture_shows_the_images_and_frames_hits_green_and_misses_red(tmp_path: Path) -> None:
    write_gallery_png([ranked_query(), ranked_query(HOSTILE)], tmp_path / "gallery.png")
    with Image.open(tmp_path / "gallery.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(0, 128, 0), (255, 0, 0), (21, 122, 60), (196, 40, 28)} <= colours
    assert list(tmp_path.iterdir()) == [tmp_path / "gallery.png"]
