"""Pictures of an index for those who look at results: small ones, and the files themselves."""

from __future__ import annotations

import io
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from apdist.data.images import ImageError, image_size, open_image
from apdist.report.pictures import shrunk
from apdist.serving.decoding import DecodingRoom
from apdist.serving.limits import RefusedError

SIDE = 320
"""Longer side of a thumbnail, in pixels."""
CACHE_BYTES = 64_000_000
SHOWN = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
}
"""Formats that a browser shows, by Pillow's names; files of others are given as PNG."""
_QUALITY = 80


@dataclass(frozen=True)
class Encoded:
    """A picture as it is sent."""

    data: bytes
    media_type: str


class ThumbnailCache:
    """Thumbnails by the place of their picture; the least recently seen go first.

    Args:
        most_bytes: of all of them.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self.most_bytes, self.num_bytes = most_bytes, 0
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: str) -> Encoded | None:
        """The thumbnail of a picture, if it is there."""
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
            return self._kept.get(place)

    def put(self, place: str, thumbnail: Encoded) -> None:
        """Keep a thumbnail."""
        with self._lock:
            if place in self._kept:
                return
            self._kept[place] = thumbnail
            self.num_bytes += len(thumbnail.data)
            while self.num_bytes > self.most_bytes:
                _, gone = self._kept.popitem(last=False)
                self.num_bytes -= len(gone.data)


def thumbnail_of(data: bytes, room: DecodingRoom) -> Encoded:
    """A small picture of an encoded one, decoded in ``room``.

    Raises:
        RefusedError: it cannot be decoded any more.
    """
    target = io.BytesIO()
    try:
        with room.held(math.prod(image_size(data))):
            shrunk(data, SIDE).save(target, "WEBP", quality=_QUALITY)
    except ImageError as error:
        raise _damaged(error) from error
    return Encoded(target.getvalue(), "image/webp")


def whole_of(data: bytes, room: DecodingRoom) -> Encoded:
    """A picture as a browser shows it: its file, or a PNG of it, decoded in ``room``.

    Raises:
        RefusedError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = image.format or ""
    except Exception:  # with damaged metadata, which decoding may do without
        kind = ""
    if kind in SHOWN:
        return Encoded(data, SHOWN[kind])
    target = io.BytesIO()
    try:
        with room.held(math.prod(image_size(data))):
            open_image(data).save(target, "PNG", compress_level=1)
    except ImageError as error:
        raise _damaged(error) from error
    return Encoded(target.getvalue(), "image/png")


def _damaged(error: ImageError) -> RefusedError:
    return RefusedError(404, "picture_gone", f"the picture {error}")
