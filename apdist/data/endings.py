"""Whether the bytes of an image reach to its end, as its format marks it, without decoding them."""

import struct

from apdist.data import png

_JPEG = b"\xff\xd8"
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = 0xDA


def reaches_its_end(data: bytes) -> bool:
    """Whether the end that the format marks is there; also false where it marks none.

    A JPEG that is cut in its pixels has no end mark behind them, a PNG lacks its last part or a
    checksum differs, a WebP is shorter than it says.
    """
    if data.startswith(_JPEG):
        return _jpeg_ends(data)
    if data.startswith(png.SIGNATURE):
        return png.is_whole(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return False


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end mark follows the first scan: there it is written for nothing else.

    Before it lie segments with their lengths, of which one may hold a small JPEG of its own; behind
    it many cameras write more.
    """
    at = len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, length = struct.unpack_from(">BH", data, at + 1)
        if kind == 0xFF:  # padding
            at += 1
            continue
        at += 2 + length
        if kind == _START_OF_SCAN:
            return data.rfind(_END_OF_JPEG, at) >= 0
    return False
