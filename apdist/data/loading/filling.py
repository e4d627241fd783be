"""Fill a part of a batch: check, decode, augment. Runs in threads or in loader processes.

Importing this must stay cheap (no torch): each loader process does.

Shapes: p images of a piece, s side of the crop in pixels.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from apdist.config import AugmentConfig
from apdist.data.images import ImageError, image_seed, training_image
from apdist.data.loading.reader import Piece


@dataclass(frozen=True)
class Order:
    """What a loader is asked to do."""

    piece: Piece
    seed: int
    epoch: int


@dataclass
class Filled:
    """What a loader did; its images are in the buffer."""

    num_images: int = 0
    num_bytes: int = 0
    """Encoded bytes read."""
    read_s: float = 0.0
    decode_s: float = 0.0
    num_retries: int = 0
    num_hits: int = 0
    """Ranges that a disk cache had."""
    num_misses: int = 0
    corrupt: dict[int, str] = field(default_factory=dict)
    """Number in the piece and reason, of images that could not be decoded."""


def fill(
    order: Order,
    encoded: Sequence[bytes | memoryview],
    out: NDArray[np.uint8],
    augment: AugmentConfig,
) -> Filled:
    """Write the augmented images of a piece into ``out`` (p, 3, s, s) uint8.

    Args:
        order: the piece, and what its chance comes from.
        encoded: its images as they were read.
        out: gets the images; that of a corrupt one is left as it is.
        augment: random changes.
    """
    piece, started = order.piece, time.perf_counter()
    filled = Filled(len(piece), sum(map(len, encoded)))
    for number, data in enumerate(encoded):
        try:
            piece.check(number, data)
            seed = image_seed(order.seed, order.epoch, piece.keys[number])
            out[number] = training_image(data, out.shape[-1], augment, seed)
        except ImageError as error:
            filled.corrupt[number] = str(error)
    filled.decode_s = time.perf_counter() - started
    return filled


def explain(where: str, error: object) -> str:
    """One line about a corrupt image and what can be done."""
    return f"{where} {error}; prepare the data again, or train with --data.on-corrupt replace"
