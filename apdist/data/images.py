"""Decoding and augmentation: encoded bytes to a square uint8 image.

Shapes: s side of the crop in pixels. Images are (3, s, s) uint8; the network normalises them.
"""

import io
import math
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from apdist.config import AugmentConfig

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused: a decompression bomb must not take the machine's memory.

It is where Pillow itself refuses, so that no other message is seen."""
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")


class ImageError(ValueError):
    """The bytes cannot be used as an image; the message says why."""


def open_image(data: bytes | memoryview, min_side: int = 0) -> Image.Image:
    """Decode ``data`` to RGB, upright, on white where it is transparent.

    Args:
        data: an encoded image in any format that Pillow reads; of an animation the first frame.
        min_side: a JPEG may be decoded at a fraction of its size, as long as its shorter side
            keeps this many pixels (Pillow's draft mode, 2.7 times faster). 0: full size.

    Raises:
        ImageError: empty, truncated, too large, or no image.
    """
    image = _opened(data)
    try:
        if min_side:
            image.draft("RGB", _draft_size(image.size, min_side))
        image.load()
        rgb = _to_rgb(image)
    except ImageError:
        raise
    # Pillow's readers fail on damaged files with whatever their parsers trip over.
    except Exception as error:
        raise ImageError(f"cannot be decoded ({_told(error)})") from error
    turn = UPRIGHT.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from its header alone.

    Raises:
        ImageError: empty, too large, or no image; damage behind the header is not seen.
    """
    image = _opened(data)
    width, height = image.size
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        # Pillow turns a TIFF itself. A PNG may hold its orientation behind the pixels, and looking
        # for it would decode them.
        return width, height
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _opened(data: bytes | memoryview) -> Image.Image:
    """The image with its header read."""
    if not data:
        raise ImageError("is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow warns from half its own limit on, and of metadata that nobody needs.
            warnings.filterwarnings("ignore", module="PIL")
            image: Image.Image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ImageError("is no image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"has more than {MAX_PIXELS} pixels") from error
    except Exception as error:
        raise ImageError(f"cannot be decoded ({_told(error)})") from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"has {image.width} x {image.height} pixels, over {MAX_PIXELS}")
    return image


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a photograph with damaged metadata is still a photograph
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _draft_size(size: tuple[int, int], min_side: int) -> tuple[int, int]:
    scale = min_side / min(size)
    return (math.ceil(size[0] * scale), math.ceil(size[1] * scale))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in (*SIXTEEN_BIT_MODES, "I", "F"):
        image = _to_eight_bits(image)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe's CMYK JPEGs hold inverted inks, and Pillow takes every one for Adobe's.
        image = ImageChops.invert(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of more than 8 bits, scaled; Pillow would clip them at 255."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ImageError("has pixels that are not finite")
    largest = values.max()
    if image.mode in SIXTEEN_BIT_MODES or largest > 255:
        top = 65535.0
    else:
        top = 1.0 if image.mode == "F" and largest <= 1 else 255.0
    return Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8))


def evaluation_image(data: bytes, side: int) -> NDArray[np.uint8]:
    """The centred square of the image, (3, s, s) uint8."""
    image = open_image(data, min_side=side)
    return to_array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))


def training_image(
    data: bytes | memoryview, side: int, augment: AugmentConfig, seed: int
) -> NDArray[np.uint8]:
    """A random crop, rotated, with changed colours, (3, s, s) uint8; equal for equal ``seed``."""
    random = np.random.default_rng(seed)
    crop = _draw_crop(augment, random)
    # Drawn before decoding: the larger the crop, the fewer pixels of the image it needs.
    image = _crop(open_image(data, min_side=math.ceil(side / crop.scale)), side, crop)
    if random.random() < augment.flip_probability:
        image = ImageOps.mirror(image)
    return to_array(_jitter_colours(image, augment.colour_jitter, random))


@dataclass(frozen=True)
class _Crop:
    """A square in an image of any size."""

    scale: float
    """Side, as a share of the image's shorter side."""
    shift: tuple[float, float]
    """From the image's centre, right and down, as a share of the room there is; -1 to 1."""
    angle: float
    """Turn in radians."""


def _draw_crop(augment: AugmentConfig, random: np.random.Generator) -> _Crop:
    scale = random.uniform(augment.min_scale, augment.max_scale)
    shift = (random.uniform(-1, 1), random.uniform(-1, 1))
    return _Crop(scale, shift, math.radians(random.uniform(-1, 1) * augment.rotation_degrees))


def _crop(image: Image.Image, side: int, crop: _Crop) -> Image.Image:
    """The square ``crop`` of ``image`` with ``side`` pixels, in one resampling."""
    # A bilinear transform reads four pixels: shrink first, or a large image would be aliased.
    shrinking = max(1, int(min(image.size) * crop.scale // side))
    size = [length / shrinking for length in image.size]  # what is left of a block counts less
    length = min(size) * crop.scale
    centre = [
        whole / 2 + shift * abs(whole - length) / 2
        for whole, shift in zip(size, crop.shift, strict=True)
    ]
    if shrinking > 1:
        image = image.reduce(shrinking)
    # Maps a pixel of the crop to a point of the image.
    a, b = math.cos(crop.angle) * length / side, math.sin(crop.angle) * length / side
    half = side / 2
    matrix = (a, b, centre[0] - half * (a + b), -b, a, centre[1] - half * (a - b))
    return image.transform(
        (side, side),
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=_edge_colour(image),
    )


def _edge_colour(image: Image.Image) -> tuple[int, int, int]:
    """Mean of the four corners: what a turned crop shows beyond the image."""
    right, bottom = image.width - 1, image.height - 1
    places = ((0, 0), (right, 0), (0, bottom), (right, bottom))
    corners = np.array([image.getpixel(place) for place in places], dtype=np.float64)  # (4, 3)
    red, green, blue = corners.mean(axis=0)
    return int(red), int(green), int(blue)


def _jitter_colours(
    image: Image.Image, strength: float, random: np.random.Generator
) -> Image.Image:
    """Brightness, contrast and saturation together are one affine map of the colours."""
    brightness, contrast, saturation = 1 + strength * random.uniform(-1, 1, 3)
    if strength == 0:
        return image
    grey = np.array([0.299, 0.587, 0.114])  # ITU-R 601 luma
    mix = saturation * np.eye(3) + (1 - saturation) * grey  # (3, 3)
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * mix
    matrix[:, 3] = 128 * (1 - contrast)
    return image.convert("RGB", tuple(matrix.ravel().tolist()))


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """RGB image to (3, h, w) uint8."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def image_seed(seed: int, epoch: int, key: str) -> int:
    """Seed of one image's augmentation: the same on every machine, in every process."""
    return zlib.crc32(f"{seed}/{epoch}/{key}".encode())
