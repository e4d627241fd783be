"""Pictures of a page: each once, as large as its bytes allow."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from apdist.report.embedding_map import MapImage, draw_map
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
    pictures = [noise(number) for number in range(5)]
    smallest = embed(pictures, [], 3_000).embedded
    assert {each.height for each in smallest} == {48}
    room = sum(each.num_bytes for each in smallest[:3]) + 10
    album = embed(pictures, [], room)
    assert len(album.embedded) == 3
    assert embed(pictures, [], 1).embedded == ()
    assert sum(each.num_bytes for each in album.embedded) <= room
    assert [each.number for each in album.embedded] == list(range(len(album.embedded)))
    assert album.notes[0].endswith(f"and only the first {len(album.embedded)} of 5")


def test_dots_get_a_part_of_the_bytes_and_share_pictures_that_are_shown_anyway() -> None:
    pictures, dots = [noise(n) for n in range(4)], [noise(n, 64) for n in range(2, 8)]
    album = embed(pictures, dots, 60_000)
    numbers = [each.number for each in album.embedded]
    assert numbers == list(range(8))
    assert sum(each.num_bytes for each in album.embedded) <= 60_000


def test_a_page_stays_in_its_limit_and_says_what_that_took() -> None:
    shown = report()
    queries = tuple(
        replace(ranked_query(), image=noise(n).image, key=str(n), row=n + 9) for n in range(12)
    )
    shown = replace(shown, gallery=queries)
    page, notes = render_report(replace(shown, max_bytes=150_000))
    assert 100_000 < len(page.encode()) <= 150_000
    assert "To stay in its limit of size: pictures are at most" in Page(page).words
    assert notes
    assert len(render_report(shown)[0].encode()) > 150_000


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


def photograph(number: int) -> Image.Image:
    """Soft shapes with grain: compresses as photographs do."""
    random = np.random.default_rng(number)
    soft = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((320, 240), Image.Resampling.BICUBIC)).astype(float)
    return Image.fromarray(
        (pixels + random.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)
    )


@pytest.mark.slow
def test_a_page_of_the_default_sizes_takes_three_megabytes_at_most() -> None:
    """24 queries with 10 results, all pictures different, and a map of 1,000 images."""
    name = "a folder of some length/and another one/photograph {}.jpg"
    about = {"label": "a class with a name", "label_id": 0}

    def named_picture(number: int, side: int = 320) -> dict[str, Any]:
        image = photograph(number)
        image.thumbnail((side, side))
        return {"image": image, "name": name.format(number), "key": f"key {number}", **about}

    query = ranked_query()
    gallery = tuple(
        replace(
            query,
            **named_picture(number * 11),
            row=number,
            results=tuple(
                replace(query.results[0], **named_picture(number * 11 + place))
                for place in range(1, 11)
            ),
        )
        for number in range(24)
    )
    images = [
        MapImage(**named_picture(1000 + n, 64), row=n, average_precision=0.5) for n in range(1000)
    ]
    dots = draw_map(torch.randn(1000, 16, generator=torch.Generator().manual_seed(1)), images, 9, 9)
    page, notes = render_report(replace(report(), gallery=gallery, map=dots))
    assert 2_000_000 < len(page.encode()) <= 3_000_000
    assert not [note for note in notes if "only the first" in note]
    sides = [
        max(int(s["width"] or 0), int(s["height"] or 0)) for s in Page(page).attributes("image")
    ]
    assert max(sides) >= 192
    assert sorted(sides)[len(sides) // 2] >= 32  # most are dots
