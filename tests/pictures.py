"""Small data sets for the tests: classes that differ in pattern, images that differ in noise."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.preparing.shards import Encoded, Item, write_shards

SIDE = 24


def picture(label: int, number: int, side: int = SIDE) -> Image.Image:
    """A grating whose direction and frequency tell the class."""
    random = np.random.default_rng([label, number])
    y, x = np.mgrid[0:side, 0:side] / side
    angle = label * 2.4
    wave = np.sin((2 + label % 5) * 6.28 * (np.cos(angle) * x + np.sin(angle) * y) + number)
    grey = 128 + 90 * wave[..., None] + random.normal(0, 8, (side, side, 3))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def encode_picture(content: tuple[int, int]) -> Encoded:
    image = picture(*content)
    return Encoded(encoded(image), "png", *image.size)


def items(num_classes: int = 12, images_per_class: int = 6, num_test: int = 4) -> list[Item]:
    return [
        Item(
            source=f"class {label}/picture {number}.png",
            label=label,
            label_name=f"class {label}",
            split="test" if label < num_test else "train",
            content=(label, number),
        )
        for label in range(num_classes)
        for number in range(images_per_class)
    ]


def refuse(item: Item, reason: str) -> None:
    raise ValueError(f"{item.source} {reason}")


def write_small_set(out: Path | str, *, shard_bytes: int = 20_000, **options: int) -> Catalogue:
    return write_shards(
        items(**options), encode_picture, str(out), shard_bytes=shard_bytes, on_refused=refuse
    )


def write_folder(root: Path, names: dict[str, int]) -> None:
    """IMAGES/<class>/<image> with so many images of each class."""
    for label, (name, count) in enumerate(names.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(encoded(picture(label, number)))
