"""Texts and profiles of a PNG, large, late or damaged, do not keep its picture from being read."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from apdist.data.images import ImageError, image_size, open_image
from apdist.data.png import without_metadata
from tests.data.test_pixels import RED_AND_BLUE_SWAPPED, SRGB
from tests.pictures import encoded, picture

PICTURE = picture(1, 2).crop((0, 0, 24, 12))
END = -12
"""Where the last chunk begins."""


def chunk(name: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def with_texts(number: int, size: int) -> bytes:
    texts = PngImagePlugin.PngInfo()
    for n in range(number):
        texts.add_text(f"note {n}", "x" * size, zip=True)
    return encoded(PICTURE, pnginfo=texts)


def damaged(data: bytes, name: bytes) -> bytes:
    at = data.index(name) + 8
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def large_profile(packed: bytes) -> bytes:
    plain = encoded(PICTURE)
    return plain[:33] + chunk(b"iCCP", b"name\0\0" + packed) + plain[33:]


CASES = {
    "a text of 2 MB": with_texts(1, 2_000_000),
    "90 MB of texts": with_texts(100, 900_000),
    "a text behind the pixels": encoded(PICTURE)[:END]
    + chunk(b"zTXt", b"n\0\0" + zlib.compress(b"x" * 2_000_000))
    + encoded(PICTURE)[END:],
    "a profile of 3 MB zeros": encoded(PICTURE, icc_profile=bytes(3_000_000)),
    "a profile that unpacks to 100 MB": large_profile(zlib.compress(bytes(100_000_000))),
    "a profile that is not packed": large_profile(b"\xff" * 100),
    "a damaged profile": damaged(encoded(PICTURE, icc_profile=SRGB), b"iCCP"),
    "a damaged text": damaged(with_texts(1, 50), b"zTXt"),
}


@pytest.mark.parametrize("case", CASES)
def test_metadata_does_not_keep_a_picture_from_being_read(case: str) -> None:
    assert np.array_equal(np.asarray(open_image(CASES[case])), np.asarray(PICTURE))
    assert image_size(CASES[case]) == (24, 12)


def test_a_large_profile_is_used() -> None:
    padded = RED_AND_BLUE_SWAPPED + bytes(2_000_000)
    padded = struct.pack(">I", len(padded)) + padded[4:]
    image = Image.new("RGB", (4, 4), (200, 30, 60))
    small, large = (encoded(image, icc_profile=p) for p in (RED_AND_BLUE_SWAPPED, padded))
    assert open_image(large).tobytes() == open_image(small).tobytes() != image.tobytes()


def test_orientation_and_transparency_outlive_the_texts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    texts = PngImagePlugin.PngInfo()
    texts.add_text("note", "x" * 2_000_000, zip=True)
    image = Image.new("P", (4, 2), 0)
    image.putpalette(bytes(30))
    read = open_image(encoded(image, pnginfo=texts, exif=exif, transparency=0))
    assert read.size == (2, 4)
    assert read.getpixel((0, 0)) == (255, 255, 255)


def made(bits: int, kind: int, size: int, key: bytes, row: bytes) -> bytes:
    """A PNG of one row."""
    header = struct.pack(">IIBBBBB", size, 1, bits, kind, 0, 0, 0)
    parts = {b"IHDR": header, b"tRNS": key, b"IDAT": zlib.compress(b"\0" + row), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts.items())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_becomes_white_at_every_depth(bits: int) -> None:
    most = (1 << bits) - 1
    row = [0, 1, most - 1, most]
    packed = int("".join(f"{value:0{bits}b}" for value in row).ljust(8, "0"), 2)
    for key in sorted({0, 1, most}):
        stored = packed.to_bytes(max(1, bits // 2), "big")
        pixels = np.asarray(open_image(made(bits, 0, 4, struct.pack(">H", key), stored)))
        expected = [255 if value == key else value * 255 // most for value in row]
        assert pixels[0, :, 0].tolist() == expected


def test_the_transparent_colour_of_sixteen_bits_becomes_white_and_no_other() -> None:
    row = struct.pack(">6H", 0xFFFF, 0, 0, 0x1212, 0x3434, 0)
    for key, expected in (
        ((0x1212, 0x3434, 0), [[255, 0, 0], [255, 255, 255]]),
        ((0x00FF, 0, 0), [[255, 0, 0], [0x12, 0x34, 0]]),
    ):
        data = made(16, 2, 2, struct.pack(">3H", *key), row)
        assert np.asarray(open_image(data))[0].tolist() == expected


def test_damaged_pixels_stay_damaged() -> None:
    data = with_texts(1, 2_000_000)
    for broken in (damaged(data, b"IDAT"), data[: data.index(b"IDAT") + 40]):
        with pytest.raises(ImageError, match="cannot be decoded"):
            open_image(broken)
    assert without_metadata(encoded(PICTURE, "JPEG")) == (b"", b"")
