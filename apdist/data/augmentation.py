"""Augmentation: an encoded image to a random square of it, equal for equal seeds.

Shapes: s side of the crop in pixels. Images are (3, s, s) uint8; the network normalises them.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from apdist.config import AugmentConfig
from apdist.data.images import open_image, to_array


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


def image_seed(seed: int, epoch: int, key: str) -> int:
    """Seed of one image's augmentation: the same on every machine, in every process."""
    return zlib.crc32(f"{seed}/{epoch}/{key}".encode())
