"""Uploads that no person means well with: cut, altered, of other kinds, bombs."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from functools import cache

from PIL import Image

from tests.pictures import encoded, picture

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF", "PPM")
OTHERS = (
    b"",
    b"\0" * 5000,
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
    b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj",
    b"MZ\x90\0" + b"\0" * 100,
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0" + b"\xff" * 1000,
    b"GIF89a\xff\xff\xff\xff\0\0\0;",
    b"P6 99999 99999 255\n",
    b"RIFF\xff\xff\xff\xffWEBPVP8 ",
)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG that says that it has so many pixels; its data are a kilobyte of zeros, deflated."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    rows = chunk(b"IHDR", head), chunk(b"IDAT", _zeros()), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(rows)


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(10_000_000), 9)


@cache
def samples() -> list[bytes]:
    """A small picture of each kind that this Pillow writes."""
    found = []
    for kind in KINDS:
        try:
            found.append(encoded(picture(1, 1, side=48), kind))
        except (KeyError, OSError, ValueError):
            continue
    return found


@cache
def text_bomb() -> bytes:
    """A PNG whose comment is inflated to 5 MB."""
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("Comment", " " * 5_000_000, zip=True)
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "PNG", pnginfo=about)
    return target.getvalue()


@cache
def archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a", bytes(1_000_000))
    return target.getvalue()


def hostile(number: int) -> bytes:
    """One of as many as are asked for."""
    chance = random.Random(number)
    data = bytearray(chance.choice(samples()))
    way = number % 6
    if way == 0:
        return bytes(data[: chance.randrange(len(data))])
    if way == 1:
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    if way == 2:
        return chance.choice((*OTHERS, archive()))
    if way == 3:
        return chance.randbytes(chance.randrange(3000))
    if way == 4:
        place = chance.randrange(len(data))
        return bytes(data[:place]) + chance.randbytes(20) + bytes(data[place:])
    if number % 30 == 5:
        return text_bomb()
    sides = (20_000, 65_535), (7000, 7001), (2**31 - 1, 2**31 - 1), (0, 5), (4000, 600)
    return png_bomb(*chance.choice(sides))
