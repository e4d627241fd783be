"""A copy of shards with faults that are known: flipped labels, copies of images, a class in two."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field

from PIL import Image

from apdist.data.catalogue.catalogue import Catalogue, codes_and_names, read_catalogue
from apdist.data.images import open_image
from apdist.data.loading.reader import ImageReader
from apdist.data.preparing.shards import Encoded, Item, write_shards

COPIES = ("same bytes", "JPEG quality 60", "scaled to 70 %", "cropped to 80 % of the area")
FLIPPED = 0.02
"""Share of the images whose label is another one."""
COPIED = 0.01
"""Share of the images that have a copy, of each kind."""
HALVED = 0.1
"""Share of the classes that are divided in two at random."""


@dataclass
class Planted:
    """What was done, by the source of the image."""

    flipped: dict[str, str] = field(default_factory=dict)
    """Source to its right class."""
    copies: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Source of a copy to that of its original, and the kind."""
    halved: set[str] = field(default_factory=set)
    """Names of classes of which half is called so with an apostrophe."""


def plant(shards: str, out: str, *, num_classes: int, seed: int) -> Planted:
    """Write the images of ``shards`` under ``out`` with faults among them.

    Args:
        shards: folder of shards.
        out: empty folder.
        num_classes: take only so many classes; 0: all.
        seed: of everything that is drawn.
    """
    catalogue = read_catalogue(shards)
    rng = random.Random(seed)
    found, items = Planted(), list(_items(catalogue, num_classes, rng))
    names = {item.label_name: item.label for item in items}
    sizes = {name: sum(item.label_name == name for item in items) for name in names}
    large = sorted(name for name in names if sizes[name] >= 20)
    found.halved = set(rng.sample(large, round(HALVED * len(names))))
    drawn = rng.sample(range(len(items)), round((FLIPPED + COPIED * len(COPIES)) * len(items)))
    num_flipped = round(FLIPPED * len(items))
    for place in drawn[:num_flipped]:
        items[place] = _flipped(items[place], names, found, rng)
    for number, place in enumerate(drawn[num_flipped:]):
        items.append(_copy(items[place], COPIES[number % len(COPIES)], found, rng))
    other = max(names.values()) + 1
    items = [_halved(item, found, other, rng) for item in items]

    def refuse(item: Item, reason: str) -> None:
        raise ValueError(f"{item.source}: {reason}")

    write_shards(items, encode, out, shard_bytes=1 << 28, seed=seed, on_refused=refuse)
    return found


def _items(catalogue: Catalogue, num_classes: int, rng: random.Random) -> list[Item]:
    reader = ImageReader(catalogue)
    codes, names = codes_and_names(catalogue.column("label_name"))
    splits = catalogue.column("split").to_pylist()
    sources = catalogue.column("source").to_pylist()
    labels = catalogue.labels
    known = sorted(set(labels.tolist()))
    kept = set(rng.sample(known, num_classes) if num_classes else known)
    return [
        Item(
            source=sources[row],
            label=int(labels[row]),
            label_name=str(names[codes[row]]),
            split=str(splits[row]),
            content=(reader.read_one(row), "", row),
        )
        for row in range(len(labels))
        if int(labels[row]) in kept
    ]


def _flipped(item: Item, names: dict[str, int], found: Planted, rng: random.Random) -> Item:
    """``item`` with the label of another class."""
    other = rng.choice(sorted(set(names) - {item.label_name}))
    found.flipped[item.source] = item.label_name
    return Item(item.source, names[other], other, item.split, item.content)


def _copy(item: Item, kind: str, found: Planted, rng: random.Random) -> Item:
    stem, _, ending = item.source.rpartition(".")
    source = f"{stem}-copy.{ending}"
    found.copies[source] = (item.source, kind)
    split = rng.choice(["train", "test"])
    data, _, seed = item.content
    return Item(source, item.label, item.label_name, split, (data, kind, seed))


def _halved(item: Item, found: Planted, first: int, rng: random.Random) -> Item:
    is_other = item.label_name in found.halved and rng.random() < 0.5
    if not is_other:
        return item
    label = first + sorted(found.halved).index(item.label_name)
    return Item(item.source, label, f"{item.label_name}'", item.split, item.content)


def encode(content: tuple[bytes, str, int]) -> Encoded:
    """The image as it is, or a copy of it."""
    data, kind, seed = content
    image = open_image(data)
    is_jpeg = data[:2] == b"\xff\xd8"
    if kind in ("", "same bytes"):
        return Encoded(data, "jpg" if is_jpeg else "png", *image.size)
    if kind == "scaled to 70 %":
        size = (round(image.width * 0.7), round(image.height * 0.7))
        image = image.resize(size, Image.Resampling.BICUBIC)
    if kind == "cropped to 80 % of the area":
        image = image.crop(crop_box(*image.size, seed))
    target = io.BytesIO()
    if is_jpeg or kind == "JPEG quality 60":
        image.save(target, "JPEG", quality=60 if kind == "JPEG quality 60" else 90)
        return Encoded(target.getvalue(), "jpg", *image.size)
    image.save(target, "PNG")
    return Encoded(target.getvalue(), "png", *image.size)


def crop_box(width: int, height: int, seed: int) -> tuple[int, int, int, int]:
    """A box with 80 % of the area, somewhere; its shape differs by up to a tenth."""
    rng = random.Random(seed)
    shape = rng.uniform(0.95, 1.05)
    inside = (round(width * 0.8**0.5 * shape), round(height * 0.8**0.5 / shape))
    left, top = rng.randint(0, width - inside[0]), rng.randint(0, height - inside[1])
    return left, top, left + inside[0], top + inside[1]
