"""The chunks of one worker: logical parts of the global batch, each with its own random state.

Shapes: b images on this worker, c in a chunk, d descriptor size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apdist.config.values import of_python
from apdist.training.step.randomness import chunk_seed, seeded

# Batch norm wants more than one image.
_IMAGES_OF_PADDING = 2


@dataclass(frozen=True)
class Chunk:
    """Images that go through the model at once."""

    images: Tensor
    """(c, 3, h, w), where the batch lies."""
    seed: int
    """Of dropout and stochastic depth: by (run seed, step, number), whoever computes the chunk."""
    padding: bool = False
    """Computed only because a sharded model communicates in every pass; it counts nowhere."""

    @property
    def num_images(self) -> int:
        """Images of the batch in it: c, or none."""
        return 0 if self.padding else len(self.images)

    def describe(
        self, model: nn.Module, images: Tensor, bf16: bool, note: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Descriptors (c, d); calls ``note`` when a chunk that counts has gone through.

        Args:
            model: what describes.
            images: its images, on the device of ``model``.
            bf16: under bf16 autocast.
            note: hears of it.
        """
        device = images.device
        with seeded(self.seed, device), torch.autocast(device.type, torch.bfloat16, bf16):
            descriptors: Tensor = model(images)
        if not self.padding:
            note()
        return descriptors


def own_rows(batch_size: int, chunk_size: int, rank: int, num_workers: int) -> slice:
    """The rows of a global batch whose chunks a worker computes: whole chunks, in order.

    Raises:
        ValueError: no chunk can have that size, or no worker that rank.
    """
    numbers = [of_python(number) for number in (batch_size, chunk_size, rank, num_workers)]
    batch_size, chunk_size, rank, num_workers = numbers
    whole = all(type(number) is int for number in numbers)
    if not whole or batch_size < 0 or chunk_size < 1 or not 0 <= rank < num_workers:
        raise ValueError(
            "expected whole numbers, chunk_size of at least 1 and rank below num_workers, got "
            f"batch_size {batch_size!r}, chunk_size {chunk_size!r}, rank {rank!r}, num_workers "
            f"{num_workers!r}"
        )
    num_chunks = -(-batch_size // chunk_size)
    first, last = (num_chunks * r // num_workers for r in (rank, rank + 1))
    return slice(min(first * chunk_size, batch_size), min(last * chunk_size, batch_size))


def sizes_of_workers(batch_size: int, chunk_size: int, num_workers: int) -> tuple[int, ...]:
    """Lengths of the `own_rows` of every worker, of which there is one at least."""
    rows = [own_rows(batch_size, chunk_size, rank, num_workers) for rank in range(num_workers)]
    return tuple(part.stop - part.start for part in rows)


def numbered_chunks(
    images: Tensor, chunk_size: int, num_before: int, *, seed: int, step: int
) -> list[Chunk]:
    """Cut a worker's images (b, 3, h, w) into chunks, seeded by their numbers in the global batch.

    Args:
        images: of this worker.
        chunk_size: c.
        num_before: chunks of the workers before this one.
        seed: of the run.
        step: number of the step.
    """
    parts = images.split(chunk_size) if len(images) else ()
    return [
        Chunk(part, chunk_seed(seed, step, number)) for number, part in enumerate(parts, num_before)
    ]


def padded(chunks: list[Chunk], num_chunks: int, like: Tensor) -> list[Chunk]:
    """``chunks`` and as many of padding as make ``num_chunks``."""
    blank = like.new_zeros((_IMAGES_OF_PADDING, *like.shape[1:]))
    return [*chunks, *[Chunk(blank, 0, padding=True)] * (num_chunks - len(chunks))]


def chunk_counts(sizes: Sequence[int], chunk_size: int) -> list[int]:
    """Number of chunks of workers with so many images."""
    return [-(-size // chunk_size) for size in sizes]
