"""Decoding: encoded bytes to an image, and to the uint8 image that a network sees at evaluation.

Shapes: h x w pixels. Images are (3, h, w) uint8; the network normalises them.
"""

import io
import math
import warnings
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from apdist.config.training import Resize
from apdist.data.endings import reaches_its_end
from apdist.data.pixels import PixelError, moves_colours, to_rgb
from apdist.data.png import scale_transparent_value, without_metadata

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
_DCT_BLOCK = 8
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright image."""


class ImageError(ValueError):
    """The bytes cannot be used as an image; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image and what its file was."""

    image: Image.Image
    """RGB, upright, on white where it is transparent."""
    format: str
    """Pillow's name of it: JPEG, PNG."""
    is_clipped: bool
    """Whether float pixels lay outside of what means black and white."""


def open_image(data: bytes | memoryview, min_side: int = 0) -> Image.Image:
    """Decode ``data`` to RGB, upright, on white where it is transparent, in sRGB.

    Args:
        data: an encoded image in any format that Pillow reads; of an animation the first frame.
        min_side: a JPEG may be decoded at a fraction of its size, as long as its shorter side
            keeps this many pixels (Pillow's draft mode, 2.7 times faster). 0: full size.

    Raises:
        ImageError: empty, truncated, too large, or no image.
    """
    return decode(data, min_side).image


def decode(data: bytes | memoryview, min_side: int = 0) -> Decoded:
    """`open_image`, and what the file was.

    Raises:
        ImageError: empty, truncated, too large, or no image.
    """
    try:
        return _decoded(_opened(data), min_side)
    except ImageError:
        lean, profile = without_metadata(bytes(data))
        if not lean:
            raise
    image = _opened(lean)
    image.info["icc_profile"] = profile
    return _decoded(image, min_side)


def _decoded(image: Image.Image, min_side: int) -> Decoded:
    try:
        if min_side:
            image.draft("RGB", _draft_size(image.size, min_side))
        scale_transparent_value(image)
        image.load()
        rgb, is_clipped = to_rgb(image)
    except PixelError as error:
        raise ImageError(str(error)) from error
    # Pillow's readers fail on damaged files with whatever their parsers trip over.
    except Exception as error:
        raise ImageError(f"cannot be decoded ({_told(error)})") from error
    turn = UPRIGHT.get(_orientation(image))
    upright = rgb if turn is None else rgb.transpose(turn)
    return Decoded(upright, image.format or "", is_clipped)


def upright(image: Image.Image) -> Image.Image:
    """An image that is open already, as `open_image` gives that of its file.

    Raises:
        ImageError: its pixels cannot be read, or have no agreed meaning.
    """
    return _decoded(image, 0).image


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from its header alone.

    Raises:
        ImageError: empty, too large, or no image; damage behind the header is not seen.
    """
    try:
        image = _opened(data)
    except ImageError:
        lean, _ = without_metadata(data)
        if not lean:
            raise
        image = _opened(lean)
    width, height = image.size
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        # Pillow turns a TIFF itself. A PNG may hold its orientation behind the pixels, and looking
        # for it would decode them.
        return width, height
    return (height, width) if _orientation(image) >= 5 else (width, height)


def refuse_cut(data: bytes) -> None:
    """Raise unless the image's bytes reach to their end; decodes those that do not show it.

    Raises:
        ImageError: they end before the last pixel, or cannot be decoded.
    """
    if not reaches_its_end(data):
        open_image(data, min_side=1)


@dataclass(frozen=True)
class PlainJpeg:
    """What Pillow would decode of a JPEG whose colours are sRGB as they are stored."""

    size: tuple[int, int]
    """Width and height as they are stored, of the fraction that is decoded."""
    orientation: int
    """1 to 8, as EXIF numbers them."""


def plain_jpeg(data: bytes | memoryview, min_side: int) -> PlainJpeg | None:
    """What `open_image` would decode, from the header; None of all that needs more than decoding.

    None are other formats, several pictures in a file, grey and CMYK, profiles that move colours,
    and images of less than a block, at which sizes do not tell the fraction.
    """
    try:
        image = _opened(data)
    except ImageError:
        return None
    is_plain = image.format == "JPEG" and image.mode == "RGB" and min(image.size) >= _DCT_BLOCK
    if not is_plain or moves_colours(image.info.get("icc_profile") or b"", "RGB"):
        return None
    image.draft("RGB", _draft_size(image.size, min_side))
    return PlainJpeg(image.size, _orientation(image))


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


LEAST_SIDE = 32
"""What networks commonly divide sides by; thinner images are stretched to it (or half the side)."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How an image is brought to the size that a network sees at evaluation."""

    side: int
    """In pixels: of the square, or the longer side, or the most that it may have."""
    resize: Resize = "crop"
    """The square in the middle, or all of the image in its own shape, perhaps never enlarged."""
    interpolation: str = "bicubic"
    """A name of Pillow's filters."""
    multiple: int = 1
    """Of which height and width are multiples: the patches of a transformer."""

    def __post_init__(self) -> None:
        if self.resize not in get_args(Resize):
            raise ValueError(f"resize must be {' or '.join(get_args(Resize))}, got {self.resize!r}")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            filters = " or ".join(name.lower() for name in Image.Resampling.__members__)
            raise ValueError(f"interpolation must be {filters}, got {self.interpolation!r}")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what a network sees of an image of that width and height."""
        if self.resize == "crop":
            return self.side, self.side
        scale = self.side / max(width, height)
        if self.resize == "shrink":
            scale = min(scale, 1.0)
        lengths = (max(length * scale, self.least) for length in (width, height))
        sides = (max(1, round(length / self.multiple)) * self.multiple for length in lengths)
        return next(sides), next(sides)

    @property
    def least(self) -> int:
        """Smallest side: of a thin image a network would have less than one position left."""
        return min(self.side // 2, LEAST_SIDE)


def evaluation_image(data: bytes, fit: Fit, box: Box | None = None) -> NDArray[np.uint8]:
    """The image, or what is in the box, as a network sees it at evaluation, (3, h, w) uint8.

    Raises:
        ImageError: it cannot be decoded, or nothing of it is in the box.
    """
    # Of an image that was decoded at a fraction, a box would keep too few pixels.
    image = open_image(data, min_side=0 if box else fit.side)
    if box:
        image = _cut(image, box)
    return fitted(image, fit)


def fitted(image: Image.Image, fit: Fit) -> NDArray[np.uint8]:
    """An RGB image as a network sees it at evaluation, (3, h, w) uint8."""
    size, resample = fit.size(*image.size), Image.Resampling[fit.interpolation.upper()]
    if fit.resize == "crop":
        return to_array(ImageOps.fit(image, size, resample))
    return to_array(image.resize(size, resample))


def _cut(image: Image.Image, box: Box) -> Image.Image:
    """What is in the box, at whole pixels as Pillow rounds them."""
    left, top, right, bottom = map(round, box)
    inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ImageError(
            f"has {image.width} x {image.height} pixels, none of them in the box {box}; give boxes "
            "in pixels of the image as it is in the shards"
        )
    return image.crop(inside)


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """RGB image to (3, h, w) uint8."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
