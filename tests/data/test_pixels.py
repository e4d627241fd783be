"""A value means the same in all images of a set, whatever format and mode they have."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from apdist.data.images import ImageError, decode, open_image
from tests.pictures import encoded, picture


def first_row(data: bytes) -> list[int]:
    """Red of the first row's pixels."""
    return [int(red) for red in np.asarray(open_image(data))[0, :, 0]]


def tiff(pixels: bytes, width: int, *, bits: int, kind: int = 1, photometric: int = 1) -> bytes:
    """A grey TIFF of one row; kind 1 without sign, 2 with sign; photometric 0: 0 is white."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 126), (277, 1)]
    tags += [(278, 1), (279, len(pixels))] + ([(339, kind)] if kind != 1 else [])
    table = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = b"II" + struct.pack("<HIH", 42, 8, len(tags))
    return (start + table + bytes(4)).ljust(126, b"\0") + pixels


def grey(values: list[float], kind: type) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=kind))


SIXTEEN = [10 * 257, 200 * 257, 65535]
CONVENTION = {
    "16 bits, PNG": (encoded(grey(SIXTEEN, np.uint16)), [10, 200, 255]),
    "16 bits, TIFF": (encoded(grey(SIXTEEN, np.uint16), "TIFF"), [10, 200, 255]),
    "16 bits, dark PNG": (encoded(grey([200, 255, 256], np.uint16)), [1, 1, 1]),
    "16 bits, 0 is white": (
        tiff(struct.pack("<2H", 0, 65535), 2, bits=16, photometric=0),
        [255, 0],
    ),
    "12 bits, TIFF": (tiff(bytes([0xFF, 0xF8, 0x00]), 2, bits=12), [255, 128]),
    "16 bits, JPEG 2000": (encoded(grey(SIXTEEN, np.uint16), "JPEG2000"), [10, 200, 255]),
    "PGM up to 1000": (b"P2 3 1 1000\n0 500 1000\n", [0, 128, 255]),
    "PGM of 16 bits": (b"P5 2 1 65535\n" + struct.pack(">2H", 2570, 65535), [10, 255]),
    "floats up to 1": (encoded(grey([0, 0.2, 1], np.float32), "TIFF"), [0, 51, 255]),
    "floats over 1": (encoded(grey([-3, 0.2, 1.02], np.float32), "TIFF"), [0, 51, 255]),
    "floats far over 1": (encoded(grey([0, 0.2, 254], np.float32), "TIFF"), [0, 51, 255]),
    "PFM": (b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.2, 1.5), [51, 255]),
}


@pytest.mark.parametrize("case", CONVENTION)
def test_the_value_that_is_white_follows_from_format_and_mode(case: str) -> None:
    data, expected = CONVENTION[case]
    assert first_row(data) == expected


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_eight_bits_stored_with_sixteen_are_the_same_picture(kind: str) -> None:
    every = np.arange(256)
    assert first_row(encoded(Image.fromarray((every * 257)[None].astype(np.uint16)), kind)) == [
        *range(256)
    ]
    floats = Image.fromarray((every / 255)[None].astype(np.float32))
    assert first_row(encoded(floats, "TIFF")) == [*range(256)]


@pytest.mark.parametrize("values", [[200, 255], [200, 256], [200, 70000], [-1, 200]])
def test_integers_without_an_agreed_white_are_refused(values: list[float]) -> None:
    with pytest.raises(ImageError, match="signed or 32-bit .* which value is white"):
        open_image(encoded(grey(values, np.int32), "TIFF"))
    with pytest.raises(ImageError, match="which value is white"):
        open_image(tiff(struct.pack("<2h", 200, -5), 2, bits=16, kind=2))


def test_floats_of_a_format_without_an_agreed_white_are_refused() -> None:
    with pytest.raises(ImageError, match=r"float pixels \(SPIDER\)"):
        open_image(encoded(Image.new("F", (8, 8)), "SPIDER"))


def test_that_floats_were_clipped_is_known() -> None:
    inside, outside = ([0, 1.001], [0, 1.02])
    assert not decode(encoded(grey(inside, np.float32), "TIFF")).is_clipped
    assert decode(encoded(grey(outside, np.float32), "TIFF")).is_clipped


def test_the_transparent_value_of_sixteen_bits_becomes_white() -> None:
    data = encoded(grey([9, 40_000], np.uint16), transparency=9)
    assert first_row(data) == [255, 156]


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED_AND_BLUE_SWAPPED = (
    SRGB.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
)


def grey_profile(gamma: float) -> bytes:
    """The least that is a profile of greys with a power as its curve."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)  # D50, s15.16
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = struct.pack(">I", 2)
    tags += b"wtpt" + struct.pack(">2I", 156, len(white))
    tags += b"kTRC" + struct.pack(">2I", 156 + len(white), len(curve))
    size = 156 + len(white) + len(curve)
    head = struct.pack(">I", size) + b"lcms" + b"\x02\x40\0\0" + b"mntrGRAYXYZ "
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + tags + white + curve


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colours_of_an_embedded_profile_become_srgb(kind: str) -> None:
    image = Image.new("RGB", (8, 8), (200, 30, 60))
    red, green, blue = open_image(
        encoded(image, kind, icc_profile=RED_AND_BLUE_SWAPPED, quality=95)
    ).getpixel((4, 4))  # type: ignore[misc]
    assert abs(red - 60) < 5
    assert abs(green - 30) < 8
    assert abs(blue - 200) < 5


def test_a_profile_counts_with_transparency_palette_and_grey_too() -> None:
    image = Image.new("RGBA", (2, 1), (200, 30, 60, 255))
    image.putpixel((1, 0), (200, 30, 60, 0))
    swapped = open_image(encoded(image, icc_profile=RED_AND_BLUE_SWAPPED))
    assert swapped.getpixel((0, 0))[2] > 190  # type: ignore[index]
    assert swapped.getpixel((1, 0)) == (255, 255, 255)
    palette = image.convert("RGB").quantize(4)
    swapped = open_image(encoded(palette, icc_profile=RED_AND_BLUE_SWAPPED))
    assert swapped.getpixel((0, 0))[2] > 190  # type: ignore[index]
    linear = encoded(Image.new("L", (2, 1), 128), icc_profile=grey_profile(1.0))
    assert first_row(linear) == [188, 188]  # half the light, in sRGB
    deep = encoded(grey([128 * 257] * 2, np.uint16), icc_profile=grey_profile(1.0))
    assert first_row(deep) == [188, 188]


def test_srgb_and_profiles_that_do_not_fit_change_no_pixel() -> None:
    image = picture(0, 0)
    for profile in (SRGB, b"\0" * 500, b"", grey_profile(1.0)):
        data = encoded(image, icc_profile=profile)
        assert np.array_equal(np.asarray(open_image(data)), np.asarray(image))
    plain = encoded(image, "JPEG")
    assert open_image(plain).tobytes() == Image.open(io.BytesIO(plain)).tobytes()
    shades = image.convert("L")
    data = encoded(shades, icc_profile=SRGB)
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(shades.convert("RGB")))


def test_a_profile_that_is_nearly_srgb_changes_no_pixel() -> None:
    at = struct.unpack(">I", SRGB[SRGB.index(b"rXYZ") + 4 :][:4])[0] + 8
    red = struct.unpack(">i", SRGB[at : at + 4])[0]
    nearly = SRGB[:at] + struct.pack(">i", red + 60) + SRGB[at + 4 :]  # 0.0009 more of X
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3), axis=-1)
    image = Image.fromarray(every.reshape(52, 52 * 52, 3))
    change = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(nearly)), ImageCms.createProfile("sRGB")
    )
    assert change is not None
    assert change.tobytes() != image.tobytes()
    assert open_image(encoded(image, icc_profile=nearly)).tobytes() == image.tobytes()


def test_threads_that_share_a_profile_get_the_same_pixels() -> None:
    sets = [encoded(picture(n, n, side=64), icc_profile=RED_AND_BLUE_SWAPPED) for n in range(8)]
    one_by_one = [open_image(data).tobytes() for data in sets]
    with ThreadPoolExecutor(8) as pool:
        assert [image.tobytes() for image in pool.map(open_image, sets * 8)] == one_by_one * 8


def test_lab_pictures_are_read() -> None:
    srgb, lab = (ImageCms.createProfile(space) for space in ("sRGB", "LAB"))
    image = Image.new("RGB", (4, 4), (200, 30, 60))
    change = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    stored = ImageCms.applyTransform(image, change)
    assert stored is not None
    pixels = np.asarray(open_image(encoded(stored, "TIFF")), dtype=int)
    assert np.abs(pixels - (200, 30, 60)).max() <= 2
