"""Pictures of a page: each once, as large as its bytes allow."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from apdist.report.pictures import Embedded, Picture, embed, read_picture, shrunk
from apdist.report.report import render_report
from tests.pictures import encoded
from tests.report.pages import Page, ranked_query, rendered, report


def noise(number: int, side: int = 320) -> Picture:
    """A picture that compresses badly."""
    random = np.random.default_rng(number)
    image = Image.fromarray(random.integers(0, 256, (side, side // 2, 3), dtype=np.uint8))
    return Picture(image=image, name=f"{number}.png", key=str(number), label="x")


def opened(embedded: Embedded) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(embedded.uri.partition(",")[2])))


def test_a_picture_is_in_the_file_once_however_often_it_is_shown() -> None:
    page = Page(rendered(report()))
    symbols = [symbol["id"] for symbol in page.attributes("symbol")]
    assert len(symbols) == len(set(symbols)) == 3 + 4  # two queries share three; four dots
    uses = [use["href"] for use in page.attributes("use") if "href" in use]
    assert uses.count("#p0") == 3  # two queries and a confusion
    assert {use[1:] for use in map(str, uses)} < set(symbols)


def test_pictures_keep_their_shape_and_are_as_large_as_fits() -> None:
    pictures = [noise(number) for number in range(3)]
    roomy = embed(pictures, [], 10_000_000)
    assert [(each.width, each.height) for each in roomy.embedded] == [(160, 320)] * 3
    assert opened(roomy.embedded[0]).size == (160, 320)
    assert roomy.notes == ()
    total = sum(each.num_bytes for each in roomy.embedded)
    tight = embed(pictures, [], total // 3)
    assert sum(each.num_bytes for each in tight.embedded) <= total // 3
    side = tight.embedded[0].height
    assert 48 < side < 320
    assert tight.notes == (f"pictures are at most {side} pixels wide",)


def test_what_does_not_fit_at_the_smallest_side_is_left_out_from_the_end_and_told() -> None:
    pictures = [noise(number) for number in range(6)]
    smallest = embed(pictures, [], 3_000).embedded
    assert {each.height for each in smallest} == {48}
    room = sum(each.num_bytes for each in smallest[:3]) + 10
    album = embed(pictures, [], room)
    assert len(album.embedded) == 3
    assert embed(pictures, [], 1).embedded == ()
    assert sum(each.num_bytes for each in album.embedded) <= room
    assert [each.number for each in album.embedded] == list(range(len(album.embedded)))
    assert album.notes[0].endswith(f"and only the first {len(album.embedded)} of 6")


def test_dots_get_a_part_of_the_bytes_and_share_pictures_that_are_shown_anyway() -> None:
    pictures, dots = [noise(n) for n in range(4)], [noise(n, 64) for n in range(2, 8)]
    album = embed(pictures, dots, 60_000)
    numbers = [each.number for each in album.embedded]
    assert numbers == list(range(8))
    assert sum(each.num_bytes for each in album.embedded) <= 60_000


def test_a_page_stays_in_its_limit_and_says_what_that_took() -> None:
    shown = report()
    queries = tuple(
        replace(ranked_query(), image=noise(n).image, key=str(n), row=n + 9) for n in range(16)
    )
    shown = replace(shown, gallery=queries)
    page, notes = render_report(replace(shown, max_bytes=200_000))
    assert 130_000 < len(page.encode()) <= 200_000
    assert "To stay in its limit of size: pictures are at most" in Page(page).words
    assert notes
    assert len(render_report(shown)[0].encode()) > 200_000


def test_an_image_is_upright_and_without_what_its_file_says_of_where_it_was_taken() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "SECRET PLACE"
    data = encoded(Image.new("RGB", (60, 20), "red"), "JPEG", exif=exif)
    assert b"SECRET PLACE" in data
    picture = read_picture(data, 320, name="a", key="b", label="c", label_id=1)
    (embedded,) = embed([picture], [], 100_000).embedded
    assert (embedded.width, embedded.height) == (20, 60)
    assert b"SECRET PLACE" not in base64.b64decode(embedded.uri.partition(",")[2])
    assert shrunk(data, 30).size == (10, 30)


def test_bytes_that_are_no_image_are_refused_with_their_file_and_key() -> None:
    with pytest.raises(ValueError, match=r"image 'a.png' \(key 7\) is no image that Pillow can"):
        read_picture(b"text", 320, name="a.png", key="7", label="c", label_id=1)
