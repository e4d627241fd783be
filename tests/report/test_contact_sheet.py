import base64
import io

import pytest
from PIL import Image

from apdist.report.contact_sheet import (
    SIDE,
    Asked,
    ContactSheet,
    Found,
    Thumbnails,
    render_contact_sheet,
    thumbnail,
)
from tests.pictures import encoded, picture


def result(**changes: object) -> Found:
    known = {"picture": 0, "rank": 1, "score": 0.5, "label": "", "key": "", "file": "", "index": ""}
    return Found(**(known | changes))  # type: ignore[arg-type]


def test_a_thumbnail_keeps_the_shape_and_is_small() -> None:
    image = picture(1, 1, side=400).crop((0, 0, 400, 200))
    uri = thumbnail(encoded(image, "JPEG"))
    small = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))
    assert small.size == (SIDE, SIDE // 2)
    assert thumbnail(b"no picture") == ""


@pytest.mark.parametrize(
    ("key", "file", "says_more"),
    [("a/b", "a/b.jpg", False), ("b", "a/b.jpg", True), ("", "b.jpg", False), ("b", "", True)],
)
def test_a_key_is_shown_where_the_file_does_not_say_it(
    key: str, file: str, says_more: bool
) -> None:
    assert result(key=key, file=file).says_more == says_more


def test_names_are_text_and_nothing_is_loaded() -> None:
    thumbnails = Thumbnails()
    thumbnails.add("p", thumbnail(encoded(picture(0, 0))))
    evil = "</style><script>alert('\"')</script>"
    page = render_contact_sheet(
        ContactSheet(
            title=evil,
            summary=evil,
            notes=(evil,),
            queries=(
                Asked(
                    name=evil,
                    picture=thumbnails.number("p"),
                    results=(
                        result(label=evil, key=evil, file=f"folder/{evil}", index=evil),
                        result(rank=2, picture=1),
                    ),
                ),
                Asked(name="no result", picture=0, results=()),
            ),
            thumbnails=thumbnails,
        )
    )
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert page.count("data:image/webp") == 1
    assert page.count('class="picture p1"') == 2
    assert "No result." in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
