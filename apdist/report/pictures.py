"""Pictures of a page: small, each once in the file, as many and as large as its bytes allow."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, features

from apdist.data.images import ImageError, open_image

LARGEST_SIDE = 320
"""Longer side of a picture that is looked at, in pixels; smaller ones stay as they are."""
DOT_SIDE = 64
"""Of one that is seen beside its dot of the map."""
_SAMPLE = 24
_MARKUP_BYTES = 150
"""Around a picture: its symbol."""


class _Sizes(NamedTuple):
    """How pictures may be encoded, the best first."""

    sides: tuple[int, ...]
    quality: int


_LARGE = _Sizes((LARGEST_SIDE, 288, 256, 224, 192, 160, 128, 112, 96, 80, 64, 48), quality=72)
_DOTS = _Sizes((DOT_SIDE, 56, 48, 40, 32), quality=50)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image and what it is called."""

    image: Image.Image
    """RGB, upright, its longer side at most `LARGEST_SIDE`."""
    name: str
    """File or address that it came from, as the user knows it."""
    key: str
    """Of its sample in the shards."""
    label: str
    """Name of its class."""
    label_id: int = 0
    """Number of its class."""


@dataclass(frozen=True)
class Embedded:
    """A picture as it stands in the file."""

    number: int
    """By which the page refers to it."""
    uri: str
    width: int
    height: int

    @property
    def num_bytes(self) -> int:
        """What it takes in the file."""
        return len(self.uri) + _MARKUP_BYTES


@dataclass(frozen=True)
class Album:
    """All pictures of a page."""

    numbers: dict[str, int]
    """By key, of every picture that was asked for."""
    embedded: tuple[Embedded, ...]
    notes: tuple[str, ...]
    """What the limit of bytes took away, in words."""

    def number(self, picture: Picture) -> int:
        """By which the page refers to a picture; it may have been left out."""
        return self.numbers[picture.key]


def shrunk(data: bytes | memoryview, side: int = LARGEST_SIDE) -> Image.Image:
    """An encoded image upright, in sRGB, its longer side at most ``side``; never enlarged.

    Raises:
        ImageError: it cannot be decoded.
    """
    image = open_image(data, min_side=side)
    image.thumbnail((side, side))
    return image


def number(pictures: Iterable[Picture]) -> Album:
    """Numbers for pictures, none of them in the file yet: the page without them."""
    keys = dict.fromkeys(picture.key for picture in pictures)
    return Album({key: place for place, key in enumerate(keys)}, (), ())


def embed(pictures: Sequence[Picture], dots: Sequence[Picture], max_bytes: int) -> Album:
    """Each picture once, in ``max_bytes`` of text: smaller if need be, then fewer.

    Args:
        pictures: to be looked at, the most important first.
        dots: beside their dots of the map; they get a third of the bytes if they need it.
        max_bytes: for all of them.
    """
    numbers = number([*pictures, *dots]).numbers
    large = {picture.key: picture.image for picture in pictures}
    small = {dot.key: dot.image for dot in dots if dot.key not in large}
    kept = min(max_bytes // 3, _estimate(list(small.values()), DOT_SIDE, _DOTS.quality))
    shown, notes = _fit(large, numbers, _LARGE, max_bytes - kept)
    left = max_bytes - sum(each.num_bytes for each in shown)
    shown_small, small_notes = _fit(small, numbers, _DOTS, left)
    notes = [f"pictures {note}" for note in notes]
    notes += [f"pictures of the map {note}" for note in small_notes]
    return Album(numbers, (*shown, *shown_small), tuple(notes))


def _fit(
    images: dict[str, Image.Image], numbers: dict[str, int], sizes: _Sizes, max_bytes: int
) -> tuple[list[Embedded], list[str]]:
    """The largest of the sides at which all fit; at the smallest the first ones that do."""
    found, (sides, quality) = list[Embedded](), sizes
    for side in _sides_to_try(list(images.values()), sizes, max_bytes):
        found = [_embedded(numbers[key], image, side, quality) for key, image in images.items()]
        if sum(each.num_bytes for each in found) <= max_bytes:
            lessened = any(max(image.size) > side for image in images.values())
            return found, [f"are at most {side} pixels wide"] * (side < sides[0] and lessened)
    kept, left = [], max_bytes
    for each in found:
        left -= each.num_bytes
        if left < 0:
            break
        kept.append(each)
    notes = [f"are at most {sides[-1]} pixels wide, and only the first {len(kept)} of {len(found)}"]
    return kept, notes if found else []


def _sides_to_try(images: Sequence[Image.Image], sizes: _Sizes, max_bytes: int) -> Sequence[int]:
    """The sides from the first one that a sample says could fit; the last one at least."""
    for place, side in enumerate(sizes.sides):
        if _estimate(images, side, sizes.quality) <= max_bytes * 1.05:
            return sizes.sides[place:]
    return sizes.sides[-1:]


def _estimate(images: Sequence[Image.Image], side: int, quality: int) -> int:
    """Bytes that all would take, by a sample."""
    sample = images[:: max(1, len(images) // _SAMPLE)]
    total = sum(_embedded(0, image, side, quality).num_bytes for image in sample)
    return total * len(images) // max(1, len(sample))


def _embedded(number: int, image: Image.Image, side: int, quality: int) -> Embedded:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    media, encoded = "webp", io.BytesIO()
    if features.check("webp"):
        image.save(encoded, "WEBP", quality=quality, method=4)
    else:
        media = "jpeg"
        image.save(encoded, "JPEG", quality=quality, optimize=True)
    text = base64.b64encode(encoded.getvalue()).decode("ascii")
    return Embedded(number, f"data:image/{media};base64,{text}", *image.size)


def read_picture(data: bytes | memoryview, side: int, **about: str | int) -> Picture:
    """An encoded image with what it is called: name, key, label, label_id.

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        return Picture(image=shrunk(data, side), **about)  # type: ignore[arg-type]
    except ImageError as error:
        raise ValueError(
            f"image {about['name']!r} (key {about['key']}) {error}; leave it out of the shards"
        ) from error
