"""Decoding and augmentation: encoded bytes to a square uint8 image.

Shapes: s side of the crop in pixels. Images are (3, s, s) uint8; the network normalises them.
"""

import io
import math
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from apdist.config import AugmentConfig

MAX_PIXELS = 200_000_000
"""Images with more pixels are refused: a decompression bomb must not take the machine's memory."""


class ImageError(ValueError):
    """The bytes are no image that can be used; the message says why."""


def open_image(data: bytes, min_side: int = 0) -> Image.Image:
    """Decode ``data`` to RGB, upright, on white where it is transparent.

    Args:
        data: an encoded image in any format that Pillow reads; of an animation the first frame.
        min_side: a JPEG may be decoded at a fraction of its size, as long as its shorter side
            keeps this many pixels (Pillow's draft mode, 2.7 times faster). 0: full size.

    Raises:
        ImageError: empty, truncated, too large, or no image.
    """
    if not data:
        raise ImageError("is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow warns from half its own limit on; ours is checked below, before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"has {image.width} x {image.height} pixels, over {MAX_PIXELS}")
            if min_side:
                image.draft("RGB", _draft_size(image.size, min_side))
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ImageError("is no image that Pillow can read") from error
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"cannot be decoded ({error})") from error


def _draft_size(size: tuple[int, int], min_side: int) -> tuple[int, int]:
    scale = min_side / min(size)
    return (math.ceil(size[0] * scale), math.ceil(size[1] * scale))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        # Pillow clips 16-bit grey at 255 when it converts; scale it to 8 bits instead.
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        image = Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def evaluation_image(data: bytes, side: int) -> np.ndarray:
    """The centred square of the image, (3, s, s) uint8."""
    image = open_image(data, min_side=side)
    return to_array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))


def training_image(data: bytes, side: int, augment: AugmentConfig, seed: int) -> np.ndarray:
    """A random crop, rotated and with other colours, (3, s, s) uint8; equal for equal ``seed``."""
    random = np.random.default_rng(seed)
    image = open_image(data, min_side=math.ceil(side / augment.min_scale))
    crop = _random_crop(image, side, augment, random)
    if random.random() < augment.flip_probability:
        crop = ImageOps.mirror(crop)
    return to_array(_jitter_colours(crop, augment.colour_jitter, random))


def _random_crop(
    image: Image.Image, side: int, augment: AugmentConfig, random: np.random.Generator
) -> Image.Image:
    """A square of random size and place, turned by a random angle, in one resampling."""
    edge = min(image.size)
    # A bilinear transform reads four pixels: shrink first, or a large image would be aliased.
    if edge > 2 * side / augment.min_scale:
        image = image.reduce(int(edge * augment.min_scale // side))
        edge = min(image.size)
    crop = edge * random.uniform(augment.min_scale, augment.max_scale)
    centre = [_centre(length, crop, random) for length in image.size]
    angle = math.radians(random.uniform(-1, 1) * augment.rotation_degrees)
    # Maps a pixel of the crop to a point of the image.
    a, b = math.cos(angle) * crop / side, math.sin(angle) * crop / side
    half = side / 2
    matrix = (a, b, centre[0] - half * (a + b), -b, a, centre[1] - half * (a - b))
    return image.transform(
        (side, side),
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=_edge_colour(image),
    )


def _centre(length: int, crop: float, random: np.random.Generator) -> float:
    slack = (length - crop) / 2
    return length / 2 + random.uniform(-1, 1) * abs(slack)


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


def to_array(image: Image.Image) -> np.ndarray:
    """RGB image to (3, h, w) uint8."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def image_seed(seed: int, epoch: int, key: str) -> int:
    """Seed of one image's augmentation: the same on every machine, in every process."""
    return zlib.crc32(f"{seed}/{epoch}/{key}".encode())
