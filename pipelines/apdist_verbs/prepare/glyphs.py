"""``apdist prepare glyphs``: the embedded data set, drawn."""

import io
from dataclasses import dataclass
from typing import Any

from apdist.data.preparing.shards import Encoded, Item
from apdist_verbs.prepare.write import Writing, write
from apdist_verbs.terminal.progress import phase

SIDES = 8, 2048
"""Pixels: less shows no letter, more takes seconds for an image."""
MOST_IMAGES = 1000
"""Of a character: of all of them more than a million, which are listed before they are drawn."""


@dataclass(frozen=True, kw_only=True)
class PrepareGlyphs(Writing):
    """Draw the embedded data set: characters in the typefaces that matplotlib ships."""

    out: str = "data/glyphs"
    """Folder or s3:// prefix for the shards; must be empty."""
    shard_mib: int = 8
    """Size in MiB at which a shard is closed."""
    min_typefaces: int = 12
    """Characters in fewer typefaces are left out."""
    num_test: int = 300
    """Characters kept for evaluation."""
    image_size: int = 64
    """Side of an image in pixels."""
    images_per_glyph: int = 0
    """Images of each character; 0 draws one in each typeface."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, (least, most) in (
            ("--image-size", self.image_size, SIDES),
            ("--images-per-glyph", self.images_per_glyph, (0, MOST_IMAGES)),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} must be from {least} to {most:,}, got {value}")


def prepare_glyphs(options: PrepareGlyphs) -> int:
    """Draw and write the embedded data set."""
    with phase("looking for typefaces"):
        from apdist.data.preparing import glyphs

        found = glyphs.find_glyphs(options.min_typefaces)
    train, test = glyphs.split_glyphs(found, num_test=options.num_test, seed=options.seed)
    labels = {glyph.character: label for label, glyph in enumerate(found)}
    items = [
        Item(
            source=f"{image.glyph.name.replace(' ', '_')}/{image.typeface}.jpg",
            label=labels[image.glyph.character],
            label_name=f"{image.glyph.character} {image.glyph.name}",
            split=split,
            content=image,
        )
        for split, members in (("train", train), ("test", test))
        for image in glyphs.glyph_images(
            members,
            size=options.image_size,
            seed=options.seed,
            images_per_glyph=options.images_per_glyph,
        )
    ]
    write(items, encode_glyph, options, is_strict=True)
    return 0


def encode_glyph(image: Any) -> Encoded:
    """Draw one glyph image."""
    picture = image.draw()
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=90)
    return Encoded(target.getvalue(), "jpg", *picture.size)
