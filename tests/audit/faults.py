"""Shards with faults among their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.preparing.shards import Encoded, Item, write_shards
from tests.pictures import encoded, refuse

SIZE = (96, 80)


def photo(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with soft shapes and some texture, like no other."""
    random = np.random.default_rng(number)
    coarse = random.uniform(0, 255, (7, 8, 3)).astype(np.uint8)
    fine = random.uniform(-25, 25, (size[1] // 4, size[0] // 4, 3))
    soft = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    texture = np.kron(fine, np.ones((4, 4, 1)))
    return Image.fromarray((soft + texture).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Shot:
    """A picture of a data set."""

    name: str
    data: bytes
    label: str = "a"
    split: str = "train"


def png(number: int, name: str = "", label: str = "a", split: str = "train") -> Shot:
    """A picture of its own, without loss."""
    return Shot(name or f"{number}.png", encoded(photo(number)), label, split)


def as_it_is(data: bytes) -> Encoded:
    return Encoded(data, "png", *SIZE)


def write_shots(out: Path | str, shots: Sequence[Shot]) -> Catalogue:
    """Shards with these pictures; a key is the name without its ending."""
    labels = {name: number for number, name in enumerate(sorted({shot.label for shot in shots}))}
    items = [
        Item(shot.name, labels[shot.label], shot.label, shot.split, shot.data) for shot in shots
    ]
    return write_shards(items, as_it_is, str(out), shard_bytes=1 << 20, on_refused=refuse)


def rows_of(catalogue: Catalogue) -> dict[str, int]:
    """Row of each picture by its name."""
    return {name: row for row, name in enumerate(catalogue.column("source").to_pylist())}
