"""Check, decode and augment a part of a batch, in threads or in loader processes.

Importing this must stay cheap (no torch): each loader process does.

Shapes: p images of a request, s side of the crop in pixels.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from apdist.config import AugmentConfig
from apdist.data.augmentation import image_seed
from apdist.data.decoders import fill_of
from apdist.data.images import ImageError
from apdist.data.loading.reader import ReadRequest


@dataclass(frozen=True)
class Task:
    """What a loader is asked to do."""

    request: ReadRequest
    seed: int
    epoch: int


@dataclass
class TaskResult:
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
    """Number in the request and reason, of images that could not be decoded."""


def decode_into(
    task: Task,
    encoded: Sequence[bytes | memoryview],
    out: NDArray[np.uint8],
    augment: AugmentConfig,
    decoder: str = "pillow",
) -> TaskResult:
    """Write the augmented images of a request into ``out`` (p, 3, s, s) uint8.

    Args:
        task: the request, and what decides the random changes.
        encoded: its images as they were read.
        out: gets the images; that of a corrupt one is left as it is.
        augment: random changes.
        decoder: who makes the images, see `apdist.data.decoders`.

    Raises:
        ValueError: this process has another decoder.
    """
    request, started = task.request, time.perf_counter()
    result, fill = TaskResult(len(request), sum(map(len, encoded))), fill_of(decoder)
    for number, data in enumerate(encoded):
        try:
            request.check(number, data)
            seed = image_seed(task.seed, task.epoch, request.keys[number])
            fill(out[number], data, augment, seed)
        except ImageError as error:
            result.corrupt[number] = str(error)
    result.decode_s = time.perf_counter() - started
    return result


REPLACE = "train with --data.on-corrupt replace"
"""A way out for who begins a training; a run that goes on has decided otherwise."""


def explain(where: str, error: object) -> str:
    """One line about a corrupt image and what can be done."""
    return f"{where} {error}; prepare the data again, or {REPLACE}"
