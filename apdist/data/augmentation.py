"""Augmentation: an encoded image to a random square of it, equal for equal seeds.

This is the reference, by Pillow; `fast_decoding` does the same to JPEGs, faster.

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
    drawn = draw(augment, seed)
    # Drawn before decoding: the larger the crop, the fewer pixels of the image it needs.
    image = _crop(open_image(data, min_side=drawn.min_side(side)), side, drawn)
    if drawn.is_flipped:
        image = ImageOps.mirror(image)
    if drawn.colours is not None:
        image = image.convert("RGB", tuple(drawn.colours.ravel().tolist()))
    return to_array(image)


Row = tuple[float, float, float]
"""(a, b, c): pixel (x, y) of a crop shows an image at a x + b y + c, right or down."""


@dataclass(frozen=True)
class Drawn:
    """What happens to one image, of any size; whoever decodes it draws the same."""

    scale: float
    """Side of a square in it, as a share of the image's shorter side."""
    shift: tuple[float, float]
    """From the image's centre, right and down, as a share of the room there is; -1 to 1."""
    angle: float
    """Turn in radians."""
    is_flipped: bool
    colours: NDArray[np.float64] | None
    """(3, 4) map of red, green, blue and 1 to the new colours; None: they stay."""

    def min_side(self, side: int) -> int:
        """Pixels that the image's shorter side must keep for a crop of ``side`` pixels."""
        return math.ceil(side / self.scale)

    def place(self, size: tuple[int, int], side: int) -> tuple[int, Row, Row]:
        """Where the crop lies in an image of ``size``, in two steps.

        Returns:
            How often smaller to make the image first, and which point of what that leaves each
            pixel of the crop shows, right and down.
        """
        # A bilinear transform reads four pixels: shrink first, or a large image would be aliased.
        shrinking = max(1, int(min(size) * self.scale // side))
        left = [length / shrinking for length in size]  # what is left of a block counts less
        length = min(left) * self.scale
        centre = [
            whole / 2 + shift * abs(whole - length) / 2
            for whole, shift in zip(left, self.shift, strict=True)
        ]
        a, b = math.cos(self.angle) * length / side, math.sin(self.angle) * length / side
        half = side / 2
        right = (a, b, centre[0] - half * (a + b))
        return shrinking, right, (-b, a, centre[1] - half * (a - b))


def draw(augment: AugmentConfig, seed: int) -> Drawn:
    """The random changes of ``seed``."""
    random = np.random.default_rng(seed)
    scale = random.uniform(augment.min_scale, augment.max_scale)
    shift = (random.uniform(-1, 1), random.uniform(-1, 1))
    angle = math.radians(random.uniform(-1, 1) * augment.rotation_degrees)
    is_flipped = random.random() < augment.flip_probability
    return Drawn(scale, shift, angle, is_flipped, _draw_colours(augment.colour_jitter, random))


def _draw_colours(strength: float, random: np.random.Generator) -> NDArray[np.float64] | None:
    """Brightness, contrast and saturation together are one affine map of the colours, (3, 4)."""
    if strength == 0:
        return None
    brightness, contrast, saturation = 1 + strength * random.uniform(-1, 1, 3)
    grey = np.array([0.299, 0.587, 0.114])  # ITU-R 601 luma
    mix = saturation * np.eye(3) + (1 - saturation) * grey  # (3, 3)
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * mix
    matrix[:, 3] = 128 * (1 - contrast)
    return matrix


def _crop(image: Image.Image, side: int, drawn: Drawn) -> Image.Image:
    """The square of ``image`` with ``side`` pixels, in one resampling."""
    shrinking, right, down = drawn.place(image.size, side)
    if shrinking > 1:
        image = image.reduce(shrinking)
    return image.transform(
        (side, side),
        Image.Transform.AFFINE,
        (*right, *down),
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


def image_seed(seed: int, epoch: int, key: str) -> int:
    """Seed of one image's augmentation: the same on every machine, in every process."""
    return zlib.crc32(f"{seed}/{epoch}/{key}".encode())
