"""What a catalogue holds: images per class, lone classes, bytes; how much of it an epoch uses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apdist.data.catalogue.catalogue import Catalogue, codes_and_names


@dataclass(frozen=True)
class SplitStatistics:
    """Figures of one split."""

    num_images: int
    num_bytes: int
    num_shards: int
    class_sizes: NDArray[np.int64]
    """(c,) images of each class."""

    @property
    def num_lone(self) -> int:
        """Classes with a single image: no query of theirs has a positive."""
        return int((self.class_sizes == 1).sum())


def split_statistics(catalogue: Catalogue) -> SplitStatistics:
    """Figures of the images in ``catalogue``."""
    return SplitStatistics(
        num_images=len(catalogue),
        num_bytes=int(catalogue.column("size").to_numpy().sum()),
        num_shards=len(np.unique(codes_and_names(catalogue.column("shard"))[0])),
        class_sizes=np.unique(catalogue.labels, return_counts=True)[1],
    )


def histogram(sizes: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Bins 1, 2-3, 4-7, ...: first and last size of each, and the classes in it.

    Args:
        sizes: (c,) images of each class.
    """
    bins = np.log2(sizes).astype(np.int64) if len(sizes) else np.empty(0, dtype=np.int64)
    counts = np.bincount(bins)
    return [(1 << i, (2 << i) - 1, int(count)) for i, count in enumerate(counts)]


def bars(rows: list[tuple[int, int, int]], width: int = 40) -> list[str]:
    """``histogram`` as lines of text; a bin that is not empty shows at least one mark."""
    largest = max((count for _, _, count in rows), default=1)
    labels = [str(first) if first == last else f"{first}-{last}" for first, last, _ in rows]
    pad = max(map(len, labels), default=0)
    lines = []
    for label, (_, _, count) in zip(labels, rows, strict=True):
        marks = "#" * -(-count * width // largest)
        lines.append(f"{label:>{pad}}  {marks} {count}" if count else f"{label:>{pad}}  0")
    return lines


def images_per_epoch(
    labels: NDArray[np.int64], batch_size: int, group_size: int
) -> tuple[int, int]:
    """Batches of an epoch, and the images in them.

    Args:
        labels: (n,) class of each image, in the order of the shards.
        batch_size: images in a global batch.
        group_size: most images of one class that enter a batch together.

    Raises:
        ValueError: an epoch cannot fill a batch.
    """
    from apdist.data.plan.batch_sampler import Plan

    plan = Plan(labels, batch_size=batch_size, group_size=group_size, seed=0)
    return plan.summary.steps_per_epoch, plan.summary.steps_per_epoch * batch_size
