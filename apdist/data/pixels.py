"""Pixels of every mode to 8-bit sRGB: a value means the same in all images of a set.

What is white follows from format and mode alone, never from the values of one image: two images
of one set would otherwise be scaled differently.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageChops, ImageCms

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
TIFF_PHOTOMETRIC, TIFF_BITS = 262, 258
COLOUR_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile, and the mode of images that it can belong to."""
SAME_COLOURS = 2
"""A profile that moves no colour by more than this, of 255, is sRGB: pixels stay as they are."""


class PixelError(ValueError):
    """The pixels have no agreed meaning; the message says why."""


def to_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """``image`` as 8-bit sRGB, on white where it is transparent; and whether values were clipped.

    Raises:
        PixelError: integer or float pixels of a range that nothing fixes, or not finite.
    """
    is_clipped = False
    if image.mode in (*SIXTEEN_BITS, "I", "F"):
        image, is_clipped = _to_eight_bits(image)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe's CMYK JPEGs hold inverted inks, and Pillow takes every one for Adobe's.
        image = _with_info(ImageChops.invert(image), image)
    if not image.has_transparency_data:
        return _to_srgb(image, image), is_clipped
    rgba = image.convert("RGBA")
    rgb = _to_srgb(rgba.convert("RGB"), image)
    rgb.putalpha(rgba.getchannel("A"))
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, rgb).convert("RGB"), is_clipped


def _to_eight_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """Grey values of more than 8 bits, scaled; Pillow would clip them at 255."""
    white = _white(image)
    values = np.asarray(image, dtype=np.float64)  # (h, w)
    if not np.isfinite(values).all():
        raise PixelError("has pixels that are not finite")
    scaled = values * (255 / white)
    is_clipped = bool(scaled.max() >= 255.5 or scaled.min() <= -0.5)
    grey = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    if _is_white_zero(image):
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):  # the one value of a PNG that means transparent
        grey[values == key] = 255
    result = Image.fromarray(grey)
    result.info["icc_profile"] = image.info.get("icc_profile")
    return result, is_clipped


def _white(image: Image.Image) -> int:
    """The value that means white."""
    kind, mode = image.format, image.mode
    if mode == "F" and kind in ("TIFF", "PPM"):
        return 1
    if mode in SIXTEEN_BITS and kind == "TIFF":
        bits: int = image.tag_v2.get(TIFF_BITS, (16,))[0]  # type: ignore[attr-defined]
        return (1 << bits) - 1  # 16, or 12
    # Pillow scales the greys of these formats to 16 bits, whatever the file says is white.
    # An image that is of no file would be stored with 16 bits.
    is_sixteen = mode in SIXTEEN_BITS and kind in ("PNG", "JPEG2000", None)
    if is_sixteen or (mode == "I" and kind in ("PNG", "PPM")):  # PNG's in older versions of Pillow
        return 65535
    words = {"F": "float", "I": "signed or 32-bit integer"}.get(mode, "16-bit integer")
    raise PixelError(
        f"has {words} pixels ({kind or 'of no file'}), and nothing says which value is white; "
        "store 8 or 16 bits without sign, or floats from 0 to 1 as TIFF"
    )


def _is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF counts from white to black, which Pillow undoes for 8 bits only."""
    return image.format == "TIFF" and image.tag_v2.get(TIFF_PHOTOMETRIC) == 0  # type: ignore[attr-defined]


def _with_info(image: Image.Image, other: Image.Image) -> Image.Image:
    image.info = other.info
    return image


def _to_srgb(image: Image.Image, stored: Image.Image) -> Image.Image:
    """``image`` as RGB; through the colour profile of the ``stored`` one where that is not sRGB."""
    profile = b"" if image.mode == "LAB" else stored.info.get("icc_profile") or b""
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    if (profile or image.mode == "LAB") and (change := _colour_change(profile, image.mode)):
        changed = ImageCms.applyTransform(image, change)
        assert changed is not None  # it is not done in place
        return changed
    return image.convert("RGB")


def moves_colours(profile: bytes, mode: str) -> bool:
    """Whether an image of ``mode`` with this colour profile (empty: none) changes by it."""
    return bool(profile) and _colour_change(profile, mode) is not None


@functools.lru_cache(maxsize=32)
def _colour_change(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours of ``profile`` (empty: CIELAB) to sRGB.

    None where the profile is sRGB itself, is damaged, or belongs to images of another mode.
    """
    try:
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if COLOUR_SPACES.get(source.profile.xcolor_space.strip()) != mode:
                return None
        else:
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        srgb = ImageCms.createProfile("sRGB")
        change = ImageCms.buildTransform(source, srgb, mode, "RGB")
        return None if _changes_nothing(change, mode) else change
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _changes_nothing(change: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode not in ("L", "RGB"):
        return False
    steps = np.arange(0, 256, 15, dtype=np.uint8)  # 0 and 255 among them
    axes = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)  # (1, n, 3)
    probe = Image.fromarray(steps[None] if mode == "L" else axes)
    changed = ImageCms.applyTransform(probe, change)
    assert changed is not None
    moved = np.asarray(changed, dtype=int) - np.asarray(probe.convert("RGB"), dtype=int)
    return bool(np.abs(moved).max() <= SAME_COLOURS)
