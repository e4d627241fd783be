"""What an epoch may hold: groups of images of one class, counted by class and size.

A group is a window of neighbours in its class: the images of a class in the order of the shards,
turned by a random rotation that is new in each epoch. So a group is mostly one contiguous read, its
members change from epoch to epoch, and so do the images that an epoch leaves over.

Sizes: n images, c classes with two images or more, m blocks, K images in a group at most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIT = 1 << 20
"""Groups an epoch are counted in integers of 1/UNIT: sums are exact, and equal on every machine."""


@dataclass(frozen=True)
class Classes:
    """The images of each class, side by side."""

    order: NDArray[np.integer]
    """(n,) rows of the catalogue, class after class, inside a class in the order of the shards."""
    starts: NDArray[np.int64]
    """(c,) where each class begins in ``order``."""
    sizes: NDArray[np.int64]
    """(c,) images of each class, at least 2."""
    num_lone: int
    """Classes with a single image; they have no place in ``starts``."""


@dataclass(frozen=True)
class Blocks:
    """Groups of one class and one size; blocks of large groups come first."""

    classes: NDArray[np.int64]
    """(m,) class of the groups."""
    sizes: NDArray[np.int64]
    """(m,) images of each group, at least 2."""
    offsets: NDArray[np.int64]
    """(m,) where the block's first group begins in the rotated class, in images."""
    amounts: NDArray[np.int64]
    """(m,) groups that an epoch holds on average, in 1/UNIT."""

    @property
    def num_images(self) -> int:
        """Images of an epoch, rounded down."""
        return int((self.sizes * (self.amounts / UNIT)).sum())


def classes_of(labels: NDArray[np.int64]) -> Classes:
    """Sort the rows of ``labels`` (n,) by class; quick where equal labels lie side by side."""
    dtype = np.int32 if len(labels) < 2**31 else np.int64
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))[: len(labels)]
    lengths = np.diff(starts, append=len(labels))
    by_label = np.argsort(labels[starts], kind="stable")
    starts, lengths = starts[by_label], lengths[by_label]
    places = np.cumsum(lengths) - lengths
    order = np.repeat((starts - places).astype(dtype), lengths)
    order += np.arange(len(labels), dtype=dtype)
    kinds = labels[starts]
    firsts = np.flatnonzero(np.concatenate([[True], kinds[1:] != kinds[:-1]]))[: len(kinds)]
    begins = places[firsts]
    sizes = np.diff(begins, append=len(labels))
    several = sizes > 1
    return Classes(order, begins[several], sizes[several], int((~several).sum()))


def covering_blocks(sizes: NDArray[np.int64], group_size: int) -> Blocks:
    """All images of each class, in as few groups as hold them, of nearly equal size.

    K = 2 and an odd class give one group of three: a group of one would have no positive.

    Args:
        sizes: (c,) images of each class.
        group_size: K.
    """
    num_groups = np.minimum(-(-sizes // group_size), sizes // 2)
    small, num_large = np.divmod(sizes, num_groups)
    classes = np.arange(len(sizes))
    blocks = Blocks(
        classes=np.concatenate([classes, classes]),
        sizes=np.concatenate([small + 1, small]),
        offsets=np.concatenate([np.zeros_like(sizes), num_large * (small + 1)]),
        amounts=np.concatenate([num_large, num_groups - num_large]) * UNIT,
    )
    return _arranged(blocks)


CLASS_WEIGHTS = ("images", "classes", "sqrt")
"""See `drawn_blocks`."""


def drawn_blocks(sizes: NDArray[np.int64], group_size: int, class_weights: str) -> Blocks:
    """Groups of exactly K images (all of a smaller class), each class as often as its weight says.

    An epoch is as long as it can be without using an image twice: it is the class with the fewest
    groups for its weight that ends it.

    Args:
        sizes: (c,) images of each class.
        group_size: K.
        class_weights: ``images``, ``classes`` or ``sqrt``.
    """
    group_sizes = np.minimum(sizes, group_size)
    most = sizes // group_sizes
    weights = {
        "images": sizes / group_sizes,  # groups, so that images are drawn equally often
        "classes": np.ones(len(sizes)),
        "sqrt": np.sqrt(sizes),
    }[class_weights]
    scale = (most / weights).min(initial=np.inf)
    # One unit more than `most` groups could bring an image twice; rounding must not add it.
    amounts = np.minimum(np.rint(weights * scale * UNIT).astype(np.int64), most * UNIT)
    blocks = Blocks(np.arange(len(sizes)), group_sizes, np.zeros_like(sizes), amounts)
    return _arranged(blocks)


def _arranged(blocks: Blocks) -> Blocks:
    order = np.argsort(-blocks.sizes, kind="stable")
    order = order[blocks.amounts[order] > 0]
    return Blocks(
        blocks.classes[order], blocks.sizes[order], blocks.offsets[order], blocks.amounts[order]
    )
