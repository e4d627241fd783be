"""Descriptors of a whole split, shard after shard.

Shapes: n images of the split, d descriptor size.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from apdist.data.index import Index
from apdist.data.stream import evaluation_batches


def describe_images(
    network: nn.Module,
    index: Index,
    *,
    image_size: int,
    batch_size: int = 256,
    num_threads: int = 2,
    shards: Iterable[str] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[np.ndarray, Tensor]:
    """Describe the images of ``index``; the network's mode is left as it was found.

    Args:
        network: maps (b, 3, s, s) uint8 to descriptors (b, d).
        index: the images.
        image_size: s, side in pixels.
        batch_size: images at once.
        num_threads: threads that decode.
        shards: names of the shards to describe; None means all.
        progress: called with the number of images done.

    Returns:
        (m,) rows of ``index`` and (m, d) their descriptors on the CPU, in the order of the shards.
    """
    names = None if shards is None else list(shards)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    rows: list[np.ndarray] = []
    descriptors: list[Tensor] = []
    try:
        if names == []:
            return np.empty(0, dtype=np.int64), torch.empty(0, 0)
        with torch.inference_mode():
            for batch, images in evaluation_batches(
                index,
                side=image_size,
                batch_size=batch_size,
                num_threads=num_threads,
                shards=names or (),
            ):
                rows.append(batch)
                descriptors.append(network(images.to(device)).cpu())
                progress(sum(len(r) for r in rows))
    finally:
        network.train(was_training)
    return np.concatenate(rows), torch.cat(descriptors)


def describe_split(
    network: nn.Module, index: Index, *, image_size: int, progress: Callable[[int], None]
) -> Tensor:
    """Descriptors (n, d) of all images of ``index``, in its order."""
    rows, descriptors = describe_images(network, index, image_size=image_size, progress=progress)
    ordered = torch.empty_like(descriptors)
    ordered[torch.from_numpy(rows)] = descriptors
    return ordered
