"""A picture is the same to a network, however it is given."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from apdist.data.given_images import encoded_of, name_of, one_by_one, seen
from apdist.data.images import Fit, ImageError, evaluation_image, open_image
from tests.pictures import encoded, picture

FIT = Fit(side=20)


def cornered(mode: str, side: int = 32) -> Image.Image:
    """A picture whose corners differ, in one of Pillow's modes."""
    image = picture(1, 2, side=side)
    image.paste((255, 0, 0), (0, 0, side // 2, side // 4))
    if mode == "I;16":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        return Image.fromarray(grey)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


def reopened(data: bytes, *, is_loaded: bool) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    if is_loaded:
        image.load()
    return image


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *((mode, "TIFF") for mode in ("RGB", "CMYK", "I;16", "LAB")),
        *((mode, "JPEG") for mode in ("RGB", "L", "CMYK")),
        ("RGB", "WEBP"),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_an_open_image_is_seen_as_its_file(mode: str, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(cornered(mode), kind, exif=exif)
    expected = evaluation_image(data, FIT)
    untouched = reopened(data, is_loaded=False)
    place = untouched.fp.tell() if untouched.tile else None  # WebP's was read to its end
    assert np.array_equal(seen(untouched, FIT), expected)
    assert np.array_equal(seen(untouched, FIT), expected)  # and is left as it was
    assert place is None or untouched.fp.tell() == place
    untouched.load()
    loaded = reopened(data, is_loaded=True)
    assert np.array_equal(seen(loaded, FIT), expected)
    assert np.array_equal(seen(np.asarray(open_image(data)), FIT), expected)
    assert np.array_equal(evaluation_image(encoded_of(loaded), FIT), expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_an_image_of_no_file_is_seen_as_the_png_of_it(mode: str) -> None:
    image = cornered(mode)
    assert image.format is None
    assert np.array_equal(seen(image, FIT), evaluation_image(encoded(image), FIT))


def test_a_large_jpeg_that_is_open_is_decoded_at_the_fraction_of_its_file() -> None:
    data = encoded(cornered("RGB", side=160), "JPEG")
    expected = evaluation_image(data, FIT)
    image = reopened(data, is_loaded=False)
    assert np.array_equal(seen(image, FIT), expected)
    assert image.size == (160, 160)
    whole = seen(reopened(data, is_loaded=True), FIT)
    assert 0 < np.abs(whole.astype(int) - expected).max() < 40


def test_the_frame_that_was_chosen_is_seen() -> None:
    frames = [picture(label, 0).convert("L") for label in (1, 4)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    assert np.array_equal(seen(image, FIT), seen(frames[1].convert("RGB"), FIT))


class OneReader(io.BytesIO):
    """A file that two threads must not read at once."""

    is_read = False

    def read(self, *size: Any) -> bytes:
        assert not self.is_read
        self.is_read = True
        threading.Event().wait(0.002)  # time for another thread
        self.is_read = False
        return super().read(*size)


def test_one_open_image_may_be_given_many_times_at_once() -> None:
    image = Image.open(OneReader(encoded(cornered("RGB", side=160), "JPEG")))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: seen(image, FIT), range(16)))
    assert all(np.array_equal(one, found[0]) for one in found)


def test_arrays_that_are_views_are_seen_as_they_are() -> None:
    pixels = np.asarray(cornered("RGB"))
    turned = pixels[::-1, :, ::-1]
    assert np.array_equal(seen(turned, FIT), seen(turned.copy(), FIT))
    assert [one.shape for one in one_by_one(np.stack([pixels, pixels]))] == [(32, 32, 3)] * 2  # type: ignore[union-attr]


def test_a_closed_image_and_32_bits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(cornered("RGB")))
    with Image.open(tmp_path / "a.png") as image:
        assert name_of(image, 3) == str(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cannot be decoded"):
        seen(image, FIT)
    with pytest.raises(ImageError, match=r"integer pixels \(of no file\), and nothing says"):
        seen(cornered("L").convert("I"), FIT)


@pytest.mark.parametrize("size", [(0, 3), (3, 0)])
def test_an_image_without_a_pixel_is_refused(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    with pytest.raises(ImageError, match=rf"has no pixel \({size[0]} x {size[1]}\)"):
        seen(image, Fit(side=32))
    with pytest.raises(ImageError, match="has no pixel"):
        encoded_of(image)


def test_names_are_one_line_without_secrets(tmp_path: Path) -> None:
    assert name_of("https://me:word@host/a.png?sign=x", 0) == "https://...@host/a.png?..."
    assert name_of(tmp_path / "a\nb.png", 0) == f"{tmp_path}/a\\nb.png"
    assert name_of(b"", 7) == "picture 7"
