"""Descriptors of a whole split, shard after shard.

Shapes: n images of the split, d descriptor size.
"""

from collections.abc import Callable, Iterable
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.loading.feed import on_device
from apdist.data.loading.sequential import evaluation_batches, shard_names

_LONGEST_WAIT_BYTES = 64 << 20
"""Descriptors that may lie on a device before they are fetched."""


def describe_images(
    network: nn.Module,
    catalogue: Catalogue,
    *,
    image_size: int,
    batch_size: int = 256,
    num_threads: int = 2,
    shards: Iterable[str] | None = None,
    min_passes: int = 0,
    bf16: bool = False,
    interpolation: str = "bicubic",
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.int64], Tensor]:
    """Describe the images of ``catalogue``; the network's mode is left as it was found.

    Args:
        network: maps (b, 3, s, s) uint8 to descriptors (b, d).
        catalogue: the images.
        image_size: s, side in pixels.
        batch_size: images at once.
        num_threads: threads that decode.
        shards: names of the shards to describe; None means all.
        min_passes: at least so often images go through the network: the workers of one with
            sharded parameters wait for each other in every pass.
        bf16: run the network under bf16 autocast; descriptors are float32 nevertheless.
        interpolation: how images are resized, a name of Pillow's filters.
        progress: called with the number of images done.

    Returns:
        (m,) rows of ``catalogue`` and (m, d) their descriptors on the CPU, as the shards have them.
    """
    names = shard_names(catalogue) if shards is None else list(shards)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    rows: list[NDArray[np.int64]] = []
    descriptors = _Collected()
    try:
        read = evaluation_batches(
            catalogue,
            side=image_size,
            batch_size=batch_size,
            num_threads=num_threads,
            shards=names,
            interpolation=interpolation,
        )
        with (
            torch.no_grad(),
            torch.autocast(device.type, torch.bfloat16, bf16),
            closing(on_device(read, device)) as batches,
        ):
            for batch, images in batches:
                rows.append(batch)
                found: Tensor = network(images)
                descriptors.add(found.float() if bf16 else found)
                progress(sum(len(r) for r in rows))
            blank = torch.zeros((1, 3, image_size, image_size), dtype=torch.uint8, device=device)
            for _ in range(min_passes - len(rows)):
                network(blank)
    finally:
        network.train(was_training)
    if not rows:
        return np.empty(0, dtype=np.int64), torch.empty(0, 0)
    return np.concatenate(rows), descriptors.all()


class _Collected:
    """Descriptors in host memory; a device is asked for many batches at once, and waits less."""

    def __init__(self) -> None:
        self._there: list[Tensor] = []
        self._here: list[Tensor] = []

    def add(self, found: Tensor) -> None:
        self._there.append(found)
        if sum(part.nbytes for part in self._there) >= _LONGEST_WAIT_BYTES:
            self._fetch()

    def all(self) -> Tensor:
        self._fetch()
        return torch.cat(self._here)

    def _fetch(self) -> None:
        if self._there:
            self._here.append(torch.cat(self._there).cpu())
            self._there = []


def num_batches(catalogue: Catalogue, shards: list[str], batch_size: int) -> int:
    """Batches in which `describe_images` reads the images of ``shards``."""
    codes, names = codes_and_names(catalogue.column("shard"))
    wanted = np.flatnonzero(np.isin(names, shards))
    return -(-int(np.isin(codes, wanted).sum()) // batch_size)


def describe_split(
    network: nn.Module,
    catalogue: Catalogue,
    *,
    image_size: int,
    interpolation: str = "bicubic",
    progress: Callable[[int], None],
) -> Tensor:
    """Descriptors (n, d) of all images of ``catalogue``, in its order."""
    rows, descriptors = describe_images(
        network,
        catalogue,
        image_size=image_size,
        interpolation=interpolation,
        progress=progress,
    )
    ordered = torch.empty_like(descriptors)
    ordered[torch.from_numpy(rows)] = descriptors
    return ordered
