"""Training images of JPEGs by simplejpeg and OpenCV: what `augmentation` does, in fewer passes.

The reference decides what an image means. Here come JPEGs that need no more than to be decoded and
warped, at the fraction of their size that Pillow would take; what libjpeg warns of, and whatever is
no such JPEG, is left to the reference. So both refuse the same files, in the same words.

Shapes: h x w pixels decoded, s side of the crop. Decoded pixels are (h, w, 4): OpenCV warps four
channels 2.6 times faster than three.
"""

import math

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from apdist.config import AugmentConfig
from apdist.data.augmentation import Drawn, Row, draw, training_image
from apdist.data.images import UPRIGHT, plain_jpeg

_JPEG = b"\xff\xd8\xff"
_MOST_PIXELS_OF_A_SIDE = (1 << 15) - 2
"""OpenCV, up to version 4 at least, counts them in 16 bits with a sign."""
_SIDEWAYS, _MIRRORED, _UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 7, 8), (3, 4, 6, 7)
"""EXIF orientations whose stored axes are exchanged; those whose stored x runs against the upright
image's axis; and the same of y."""


def fill_fast(
    out: NDArray[np.uint8], data: bytes | memoryview, augment: AugmentConfig, seed: int
) -> None:
    """Write `training_image` of ``data`` into ``out`` (3, s, s), to within what docs/data.md says.

    Raises:
        ImageError: where the reference does.
    """
    drawn, side = draw(augment, seed), out.shape[-1]
    found = _decoded(data, drawn.min_side(side))
    if found is None or max(*found[0].shape, side) > _MOST_PIXELS_OF_A_SIDE:
        out[:] = training_image(data, side, augment, seed)
        return
    rgb = cv2.cvtColor(_warped(*found, side, drawn), cv2.COLOR_RGBA2RGB)  # (s, s, 3)
    if drawn.colours is not None:
        rgb = cv2.transform(rgb, drawn.colours)
    assert out.flags.c_contiguous, "OpenCV would write to a copy"
    cv2.split(rgb, list(out))


def use_one_thread() -> None:
    """Let OpenCV start no threads of its own: loaders have theirs."""
    cv2.setNumThreads(0)


def _decoded(data: bytes | memoryview, min_side: int) -> tuple[NDArray[np.uint8], int] | None:
    """Pixels (h, w, 4) and orientation of a JPEG; None of what is left to the reference."""
    if bytes(data[: len(_JPEG)]) != _JPEG or (jpeg := plain_jpeg(data, min_side)) is None:
        return None
    width, height = jpeg.size
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGBX", min_width=width, min_height=height, strict=True
        )
    except ValueError:  # damaged, perhaps in a way that Pillow passes over
        return None
    return (pixels, jpeg.orientation) if pixels.shape == (height, width, 4) else None


def _warped(
    pixels: NDArray[np.uint8], orientation: int, side: int, drawn: Drawn
) -> NDArray[np.uint8]:
    """The crop (s, s, 4) of ``pixels`` (h, w, 4): turned upright, rotated, scaled and flipped."""
    shrinking, right, down = drawn.place(_upright_size(pixels, orientation), side)
    if shrinking > 1:
        pixels, orientation = _shrunk(pixels, orientation, shrinking), 1
    x, y = (down, right) if orientation in _SIDEWAYS else (right, down)
    if orientation in _MIRRORED:
        x = _reversed(x, pixels.shape[1])
    if orientation in _UPSIDE_DOWN:
        y = _reversed(y, pixels.shape[0])
    if drawn.is_flipped:
        x, y = _from_the_right(x, side), _from_the_right(y, side)
    inside = _stays_within(x, pixels.shape[1], side) and _stays_within(y, pixels.shape[0], side)
    crop: NDArray[np.uint8] = cv2.warpAffine(
        pixels,
        np.array([_between_centres(x), _between_centres(y)]),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        # Else the rim of an enlarged image would be mixed with what is beyond it.
        borderMode=cv2.BORDER_REPLICATE if inside else cv2.BORDER_CONSTANT,
        borderValue=() if inside else _edge_colour(pixels),
    )
    return crop


def _upright_size(pixels: NDArray[np.uint8], orientation: int) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    return (height, width) if orientation in _SIDEWAYS else (width, height)


def _shrunk(pixels: NDArray[np.uint8], orientation: int, times: int) -> NDArray[np.uint8]:
    """``pixels`` upright, and smaller: the same blocks as the reference's, of its own function."""
    image = Image.frombuffer("RGBX", pixels.shape[1::-1], pixels)
    turn = UPRIGHT.get(orientation)
    return np.asarray((image if turn is None else image.transpose(turn)).reduce(times))


def _reversed(row: Row, length: int) -> Row:
    a, b, c = row
    return -a, -b, length - c


def _from_the_right(row: Row, side: int) -> Row:
    a, b, c = row
    return -a, b, a * side + c


def _between_centres(row: Row) -> Row:
    """The same between numbers of pixels, whose centres are whole for OpenCV, not halves."""
    a, b, c = row
    return a, b, (a + b) / 2 + c - 0.5


def _stays_within(row: Row, length: int, side: int) -> bool:
    """Whether the centres of all pixels of the crop lie in 0 to ``length``."""
    a, b, c = row
    ends = [a * x + b * y + c for x in (0.5, side - 0.5) for y in (0.5, side - 0.5)]
    return min(ends) >= 0 and max(ends) <= length


def _edge_colour(pixels: NDArray[np.uint8]) -> tuple[float, ...]:
    """Mean of the four corners of ``pixels`` (h, w, 4), as the reference has it."""
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=0)  # (4,)
    return tuple(math.floor(value) for value in corners)
