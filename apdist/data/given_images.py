"""Pictures as a person gives them (addresses, bytes, PIL images, arrays), as a network sees them.

Each means what its file means: upright, in sRGB, on white where it is transparent.

Shapes: h x w pixels. Arrays are given as (h, w, 3) uint8, and a network sees (3, h, w).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apdist.data import storage
from apdist.data.images import Fit, ImageError, evaluation_image, fitted, upright
from apdist.data.text import printable, shown_name

Given: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""One picture: a path or an address, an encoded image, an open one, or RGB pixels (h, w, 3)."""
EXPECTED = "a path, an address, encoded bytes, a PIL image or an array (h, w, 3) of uint8"
_pillow = threading.Lock()
"""Pillow reads an open image from a file that has one place; the same one may be given twice."""


def one_by_one(given: Given | Iterable[Given]) -> Iterable[Given]:
    """The pictures of one or many; an array (n, h, w, 3) is n of them.

    Raises:
        ValueError: it is neither a picture nor several.
    """
    if isinstance(given, str | os.PathLike | bytes | Image.Image):
        return [given]
    if isinstance(given, np.ndarray):
        return list(given) if given.ndim == 4 else [given]
    # A tensor is iterable as well, and none of its rows is a picture.
    if not isinstance(given, Iterable) or hasattr(given, "__array__"):
        raise ValueError(f"expected {EXPECTED}, or several of them, got {_kind(given)}")
    return given


def name_of(given: Given, number: int) -> str:
    """What the picture is called: its address, or its ``number`` among those that were given."""
    if isinstance(given, str | os.PathLike):
        return printable(shown_name(storage.shown(os.fspath(given))))
    file = getattr(given, "filename", "")
    return printable(shown_name(file)) if file and isinstance(file, str) else f"picture {number}"


def seen(given: Given, fit: Fit) -> NDArray[np.uint8]:
    """The picture as a network sees it at evaluation, (3, h, w).

    Raises:
        ImageError: it cannot be decoded.
        StorageError: it cannot be read.
        ValueError: it is no picture.
    """
    if isinstance(given, np.ndarray):
        return fitted(_of_array(given), fit)
    if isinstance(given, Image.Image):
        _refuse_empty(given)
        with _pillow:
            encoded = _encoded(given)
            image = None if encoded else upright(given)
        return fitted(image, fit) if image else evaluation_image(encoded, fit)
    return evaluation_image(encoded_of(given), fit)


def encoded_of(given: Given) -> bytes:
    """The picture's file; of pixels a PNG of them.

    Raises:
        ImageError: it cannot be decoded.
        StorageError: it cannot be read.
        ValueError: it is no picture.
    """
    if isinstance(given, bytes):
        return given
    if isinstance(given, str | os.PathLike):
        return _read(os.fspath(given))
    if isinstance(given, np.ndarray):
        return _stored(_of_array(given))
    if not isinstance(given, Image.Image):
        raise ValueError(f"expected {EXPECTED}, got {_kind(given)}")
    _refuse_empty(given)
    with _pillow:
        return _encoded(given) or _stored(upright(given))


def _read(uri: str) -> bytes:
    path = storage.local_path(uri)
    if path is not None and path.is_dir():
        raise ImageError("is a folder, not a picture")
    return storage.read_bytes(uri)


def _encoded(image: Image.Image) -> bytes:
    """The file of an image of which no pixel was read yet; else nothing.

    It says what Pillow forgets on reading, and a JPEG may be decoded at a fraction of its size.
    """
    file: Any = getattr(image, "fp", None)
    # Of an animation another picture than the first one may be chosen.
    if not getattr(image, "tile", None) or file is None or file.closed or image.tell():
        return b""
    place = file.tell()
    try:
        file.seek(0)
        return bytes(file.read())
    finally:
        file.seek(place)


def _refuse_empty(image: Image.Image) -> None:
    if not image.width or not image.height:
        raise ImageError(f"has no pixel ({image.width} x {image.height})")


def _stored(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1)
    return target.getvalue()


def _of_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size:
        return Image.fromarray(np.ascontiguousarray(array))
    remedy = ""
    if array.dtype.kind == "f":
        remedy = "; of floats from 0 to 1: (255 * array).round().astype('uint8')"
    elif array.ndim == 3 and array.shape[0] == 3:
        remedy = "; turn it: array.transpose(1, 2, 0)"
    elif array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 4)):
        remedy = "; give grey and transparent ones as PIL images: PIL.Image.fromarray(array)"
    raise ValueError(f"expected an array (h, w, 3) of uint8, got {_kind(array)}{remedy}")


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} of {value.dtype}"
    return f"{type(value).__name__}"


def numbered(given: Iterable[Given]) -> Iterator[tuple[int, str, Given]]:
    """Number, name and picture of each."""
    for number, one in enumerate(given):
        yield number, name_of(one, number), one
