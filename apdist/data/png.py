"""PNG as Pillow should see it: without large or damaged texts, its transparent value as stored."""

import zlib
from collections.abc import Iterator

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
WANTED = (b"tRNS", b"eXIf")
"""Chunks besides those that a PNG cannot do without (their names begin with a capital)."""
MOST_PROFILE_BYTES = 32 << 20
"""Of an unpacked colour profile: large ones are of a few MiB, and a bomb could fill the memory."""


def without_metadata(data: bytes) -> tuple[bytes, bytes]:
    """The PNG with its pixels, transparency and orientation only, and its colour profile.

    Both are empty where ``data`` is no PNG; the profile is where there is none or it is damaged.
    """
    if not data.startswith(SIGNATURE):
        return b"", b""
    kept, profile = [SIGNATURE], b""
    for name, chunk in _chunks(data):
        if name[:1].isupper() or (name in WANTED and _is_sound(chunk)):
            kept.append(chunk)
        elif name == b"iCCP" and _is_sound(chunk):
            profile = _profile(chunk[8:-4])
    return b"".join(kept), profile


def is_whole(data: bytes) -> bool:
    """Whether all parts that make up the pixels are there, each with its checksum, to the last."""
    for name, chunk in _chunks(data):
        if name[:1].isupper() and not _is_sound(chunk):
            return False
        if name == b"IEND":
            return True
    return False


def scale_transparent_value(image: Image.Image) -> None:
    """Let the value that means transparent be on the scale of the pixels.

    Pillow stretches greys of 2 and 4 bits to 8, cuts colours of 16 bits to 8, and leaves that value
    as the file has it. A colour that has no like in 8 bits makes nothing transparent.
    """
    tile = getattr(image, "tile", [])  # how the pixels lie in the file
    stored = str(tile[0][3]) if image.format == "PNG" and tile else ""
    value = image.info.get("transparency")
    if (bits := {"L;2": 2, "L;4": 4}.get(stored)) and isinstance(value, int) and value < 1 << bits:
        image.info["transparency"] = value * 255 // ((1 << bits) - 1)
    elif stored == "RGB;16B" and isinstance(value, tuple):
        del image.info["transparency"]
        if all(part % 257 == 0 for part in value):  # 0xabab is 0xab
            image.info["transparency"] = tuple(part // 257 for part in value)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and all bytes of each chunk; the last one may be cut off."""
    at = len(SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at:end]
        at = end


def _is_sound(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _profile(content: bytes) -> bytes:
    """A name, a zero, the method, and the packed profile."""
    _, _, packed = content.partition(b"\0")
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], MOST_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if unpacker.eof else b""
