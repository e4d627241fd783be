"""An image that is cut is told from a whole one as decoding tells them, mostly without it."""

import pytest
from PIL import Image

from apdist.data import images
from apdist.data.endings import reaches_its_end
from apdist.data.images import ImageError, open_image, refuse_cut
from apdist.data.png import SIGNATURE
from tests.data.test_png import chunk
from tests.pictures import encoded, picture

PICTURE = picture(1, 2, side=64)
PREVIEW = b"Exif\0\0" + encoded(picture(3, 4), "JPEG")
CASES = {
    "JPEG": encoded(PICTURE, "JPEG"),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "with preview": encoded(PICTURE, "JPEG", exif=PREVIEW),
    "PNG": encoded(PICTURE),
    "WebP": encoded(PICTURE, "WEBP"),
    "GIF": encoded(PICTURE, "GIF"),
    "BMP": encoded(PICTURE, "BMP"),
    "TIFF": encoded(PICTURE, "TIFF"),
}
MARKED = ("JPEG", "progressive", "with preview", "PNG", "WebP")
"""Whose end can be told without decoding."""


def is_read(data: bytes) -> bool:
    try:
        open_image(data)
    except ImageError:
        return False
    return True


def is_taken(data: bytes) -> bool:
    """As a pass over a shard looks at it."""
    try:
        images.image_size(data)
        refuse_cut(data)
    except ImageError:
        return False
    return True


@pytest.mark.parametrize("case", CASES)
def test_what_is_taken_is_what_decoding_reads(case: str) -> None:
    whole = CASES[case]
    sizes = [*range(1, len(whole), max(1, len(whole) // 50)), *range(len(whole) - 14, len(whole))]
    told = {size: is_taken(whole[:size]) for size in sizes}
    assert told == {size: is_read(whole[:size]) for size in sizes}
    assert is_taken(whole + b"\0more")
    assert not is_taken(whole[:200])


@pytest.mark.parametrize("case", MARKED)
def test_a_whole_image_of_a_known_format_is_not_decoded(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    refuse_cut(CASES[case])


def test_a_png_with_a_damaged_part_is_decoded_and_one_without_is_not() -> None:
    whole = CASES["PNG"]
    at = whole.index(b"IDAT") + 20
    assert not reaches_its_end(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert reaches_its_end(whole[:33] + chunk(b"tEXt", b"note\0x")[:-1] + b"?" + whole[33:])


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff\xff", SIGNATURE, SIGNATURE + b"\0" * 9]
)
def test_a_head_alone_does_not_reach_its_end(data: bytes) -> None:
    assert not reaches_its_end(data)
