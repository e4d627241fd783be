"""The embedded data set: characters drawn in the typefaces that matplotlib ships.

A class is a character and an image is that character in one typeface, so that a model must learn
the shape of letters it has never seen, whatever the typeface. No network is needed.

Shapes: n characters, p pixels of a normalised picture, s pixels a side of an image.
"""

import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Floats = npt.NDArray[np.float32]

# The other files that matplotlib ships are no typefaces in this sense: Computer Modern has its own
# encoding, the rest of STIX holds private or oversized symbols, Last Resort draws placeholders.
FAMILIES = ("DejaVu", "STIXGeneral")

# Two characters are one class if they look alike in either of these.
REFERENCES = ("DejaVuSans", "DejaVuSerif")
PICTURE_SIZE = 32
# Squared distance of two normalised pictures over the sum of their squares, 0 (equal) to 1 (no
# pixel in common). Sans-serif c and C are 0.07 apart, capital A with breve and with caron 0.03
# (serif), but S with cedilla and with comma below 0.15.
MIN_DISTANCE = 0.075


@dataclass(frozen=True)
class Glyph:
    """One character and the typefaces that hold it: a class of the data set."""

    character: str
    name: str
    typefaces: tuple[str, ...]


@dataclass(frozen=True)
class GlyphImage:
    """One image of the data set before it is drawn: light, and cheap to send to a process."""

    glyph: Glyph
    typeface: str
    size: int
    seed: int

    def draw(self) -> Image.Image:
        """Draw the image, RGB (s, s)."""
        return draw_glyph(self.glyph, self.typeface, size=self.size, seed=self.seed)


def find_glyphs(min_typefaces: int = 12) -> list[Glyph]:
    """Find the characters that at least ``min_typefaces`` typefaces hold, in code point order.

    Letters, digits, punctuation and symbols count. Of characters that look alike (Latin, Greek and
    Cyrillic A), if need be at another size (c and C, full stop and bullet), only the first stays.
    With matplotlib 3.11 that leaves 1,409 of 2,171 in 12 typefaces (19,370 pairs of character and
    typeface), and 2,041 in 8.

    Raises:
        ValueError: ``min_typefaces`` is not positive, or no character is in so many.
    """
    if min_typefaces < 1:
        raise ValueError(f"--min-typefaces must be at least 1, got {min_typefaces}")
    there = _typefaces_by_character()
    candidates = [
        Glyph(character, f"U+{ord(character):04X} {unicodedata.name(character)}", typefaces)
        for character, typefaces in there.items()
        if len(typefaces) >= min_typefaces and _is_printed(character, typefaces)
    ]
    if not candidates:
        most = max(len(faces) for letter, faces in there.items() if _is_printed(letter, faces))
        raise ValueError(
            f"--min-typefaces is {min_typefaces}, and no character is in more than {most} "
            f"typefaces; use {most} or less"
        )
    pictures = [_normalised_pictures(candidates, typeface) for typeface in REFERENCES]
    return [candidates[i] for i in _first_of_each_look(pictures)]


def split_glyphs(
    glyphs: Sequence[Glyph], *, num_test: int, seed: int
) -> tuple[list[Glyph], list[Glyph]]:
    """Split the characters at random into training and test characters.

    Raises:
        ValueError: ``num_test`` leaves no character to train on, or is not positive.
    """
    if not 0 < num_test < len(glyphs):
        raise ValueError(f"--num-test must be between 1 and {len(glyphs) - 1}, got {num_test}")
    is_test = np.zeros(len(glyphs), dtype=bool)
    is_test[np.random.default_rng(seed).permutation(len(glyphs))[:num_test]] = True
    train = [glyph for glyph, test in zip(glyphs, is_test, strict=True) if not test]
    return train, [glyph for glyph, test in zip(glyphs, is_test, strict=True) if test]


def glyph_images(
    glyphs: Sequence[Glyph], *, size: int, seed: int, images_per_glyph: int = 0
) -> Iterator[GlyphImage]:
    """Yield the images of each character in turn, to be drawn later.

    Args:
        glyphs: the classes.
        size: pixels a side.
        seed: another seed gives other poses of the same characters.
        images_per_glyph: 0 is one for each typeface. A larger number than there are typefaces
            draws them again in other poses, a smaller one leaves typefaces out at random.
    """
    for glyph in glyphs:
        rng = np.random.default_rng([seed, ord(glyph.character)])
        order = [glyph.typefaces[i] for i in rng.permutation(len(glyph.typefaces))]
        for i in range(images_per_glyph or len(order)):
            draw_seed = int(rng.integers(2**32))
            yield GlyphImage(glyph, order[i % len(order)], size, draw_seed)


def draw_glyph(glyph: Glyph, typeface: str, *, size: int, seed: int) -> Image.Image:
    """Draw a character in one typeface: RGB (s, s), a pure function of the arguments.

    The seed decides the rotation, scale, place, stroke, colours, shading and noise.
    """
    # Python's own hash of a string differs from process to process.
    rng = np.random.default_rng([seed, ord(glyph.character), zlib.crc32(typeface.encode())])
    ink = _posed_ink(glyph.character, typeface, size, rng)[..., None]  # (s, s, 1)
    paper_colour, ink_colour = _colours(rng)
    slope_y, slope_x = rng.uniform(-20, 20, size=2).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    shade = slope_y * ramp[:, None] + slope_x * ramp  # (s, s)
    pixels = paper_colour + ink * (ink_colour - paper_colour) + shade[..., None]  # (s, s, 3)
    pixels += rng.uniform(2, 16) * rng.standard_normal((size, size, 3), dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _typefaces_by_character() -> dict[str, tuple[str, ...]]:
    """Every character of every typeface, in code point order, with the typefaces that hold it."""
    # Importing matplotlib creates its cache folder: not on import, and not where images are drawn.
    from matplotlib.ft2font import FT2Font

    typefaces = defaultdict(list)
    for path in sorted(_font_folder().glob("*.ttf")):
        if path.stem.startswith(FAMILIES):
            for codepoint in FT2Font(str(path)).get_charmap():
                typefaces[chr(codepoint)].append(path.stem)
    return {character: tuple(typefaces[character]) for character in sorted(typefaces)}


def _is_printed(character: str, typefaces: Sequence[str]) -> bool:
    """Whether it leaves ink in all its typefaces, and is no superscript or combining mark."""
    return (
        unicodedata.category(character)[0] in "LNPS"
        and not unicodedata.decomposition(character).startswith(("<super>", "<sub>"))
        and all(_font(typeface, 16).getmask(character).getbbox() for typeface in typefaces)
    )


def _normalised_pictures(glyphs: Sequence[Glyph], typeface: str) -> npt.NDArray[np.float64]:
    """Pictures (n, p) of the characters, fitted into a square; 0 where the typeface lacks one.

    Pixels are whole numbers up to 255, so that products of pictures are exact in float64 and the
    same characters are kept on every machine.
    """
    pictures = np.zeros((len(glyphs), PICTURE_SIZE, PICTURE_SIZE))
    for picture, glyph in zip(pictures, glyphs, strict=True):
        if typeface in glyph.typefaces:
            ink = _raster(glyph.character, typeface, 2 * PICTURE_SIZE, 0)
            ink = ink.crop(ink.getbbox())
            zoom = PICTURE_SIZE / max(ink.size)
            width, height = (max(1, round(side * zoom)) for side in ink.size)
            left, top = (PICTURE_SIZE - width) // 2, (PICTURE_SIZE - height) // 2
            fitted = np.asarray(ink.resize((width, height), Image.Resampling.BILINEAR))
            picture[top : top + height, left : left + width] = fitted
    return pictures.reshape(len(glyphs), -1)


def _first_of_each_look(pictures: Sequence[npt.NDArray[np.float64]]) -> list[int]:
    """Indices of the characters that look unlike every character kept before them.

    Args:
        pictures: one (n, p) array for each reference typeface.
    """
    alike = np.zeros((len(pictures[0]),) * 2, dtype=bool)
    for picture in pictures:
        energy = (picture**2).sum(axis=1)
        energies = energy[:, None] + energy  # (n, n)
        alike |= energies - 2 * picture @ picture.T < MIN_DISTANCE * energies
    kept: list[int] = []
    for i in range(len(alike)):
        if not alike[i, kept].any():
            kept.append(i)
    return kept


def _posed_ink(character: str, typeface: str, size: int, rng: np.random.Generator) -> Floats:
    """Cover of ink (s, s), 0 to 1, of the character in a random pose."""
    extent = size * rng.uniform(0.55, 0.85)
    angle = np.radians(rng.uniform(-10, 10))
    shift_x, shift_y = size * rng.uniform(-0.06, 0.06, size=2)
    boldness = max(0.0, rng.uniform(-0.02, 0.02))
    ink = _raster_of_extent(character, typeface, extent, size, boldness)
    zoom = max(ink.size) / extent
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    # Maps a pixel of the image to a place in the raster, centre to centre plus the shift.
    x, y = size / 2 + shift_x, size / 2 + shift_y
    offsets = ink.width / 2 - cos * x - sin * y, ink.height / 2 + sin * x - cos * y
    matrix = (cos, sin, offsets[0], -sin, cos, offsets[1])
    posed = ink.transform(
        (size, size), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
    )
    return np.asarray(posed, dtype=np.float32) / np.float32(255)


def _colours(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Colours (3,) of paper and ink: mild, dark on light or, less often, light on dark."""
    light = rng.uniform(150, 245) + rng.uniform(-25, 25, size=3)
    dark = rng.uniform(10, 80) + rng.uniform(-25, 25, size=3)
    paper, ink = (dark, light) if rng.random() < 0.25 else (light, dark)
    return paper.astype(np.float32), ink.astype(np.float32)


def _raster_of_extent(
    character: str, typeface: str, extent: float, size: int, boldness: float
) -> Image.Image:
    """Raster of which the longer side is ``extent`` to about twice that: sharp, not aliased."""
    left, top, right, bottom = _font(typeface, size).getbbox(character)
    longest = max(right - left, bottom - top)
    # A few sizes only: each font in the cache holds a file open.
    enlargements = (0.5, 1, 2, 4, 8)
    enlargement = next((k for k in enlargements if k * longest >= extent), enlargements[-1])
    stroke = round(boldness * enlargement * longest)
    return _raster(character, typeface, round(enlargement * size), stroke)


def _raster(character: str, typeface: str, font_size: int, stroke: int) -> Image.Image:
    """Draw the character white on black, with a margin of a pixel; ``stroke`` pixels bolder."""
    font = _font(typeface, font_size)
    left, top, right, bottom = font.getbbox(character, stroke_width=stroke)
    raster = Image.new("L", (round(right - left) + 2, round(bottom - top) + 2))
    place = (1 - left, 1 - top)
    ImageDraw.Draw(raster).text(place, character, fill=255, font=font, stroke_width=stroke)
    return raster


@lru_cache(maxsize=256)
def _font(typeface: str, font_size: int) -> ImageFont.FreeTypeFont:
    # The basic layout draws the same pixels whether or not Raqm is installed.
    path = _font_folder() / f"{typeface}.ttf"
    return ImageFont.truetype(str(path), font_size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    """The folder of typefaces in the installed matplotlib, found without importing it."""
    spec = find_spec("matplotlib")
    assert spec is not None, "matplotlib is a dependency of this package"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
