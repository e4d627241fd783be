"""Sample the groups of an epoch and assign them to its batches round-robin: batches come out alike.

Groups lie in a row, large ones first, those of a block side by side; batch b of S gets the groups
at places b, b + S, b + 2S, ... Neighbours go to different batches, so a block with r groups has at
most ceil(r / S) in one batch, and the sizes of two batches differ by less than one group.

A class may have 1.6 groups an epoch: it gets 1 or 2, by *systematic sampling*. Blocks are
stretches of a line, as long as their amounts; groups are the points v, v + 1, v + 2, ... on it,
for a random v in [0, 1).

Sizes: m blocks, S steps (batches) in an epoch, B images in a batch.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apdist.data.plan.groups import UNIT, Blocks


@dataclass(frozen=True)
class Demand:
    """What a batch must be made of."""

    batch_size: int
    """Images in a batch, B."""
    num_classes: int
    """Exact number of different classes; 0: as it comes."""
    most_groups: int
    """Most groups of one class; 0: as it comes."""

    def __post_init__(self) -> None:
        if 2 * self.num_classes > self.batch_size:
            raise ValueError(
                f"data.classes_per_batch {self.num_classes} needs a training.batch_size of at "
                f"least {2 * self.num_classes}, two images of each class; got {self.batch_size}"
            )


@dataclass(frozen=True)
class EpochGroups:
    """The groups of an epoch, assigned to its batches."""

    blocks: NDArray[np.integer]
    """(m,) the blocks in the order of the row."""
    ends: NDArray[np.int64]
    """(m,) groups up to the end of each block."""
    firsts: NDArray[np.int64]
    """(S,) place of each batch's first group in the row."""
    num_groups: int
    """In all batches together."""

    def of_batch(self, position: int) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """Blocks of the groups of a batch, and the number of each group in its block."""
        places = np.arange(self.firsts[position], self.num_groups, len(self.firsts))
        ranks = np.searchsorted(self.ends, places, side="right")
        starts = np.where(ranks > 0, self.ends[ranks - 1], 0)
        return self.blocks[ranks], places - starts


def steps_per_epoch(blocks: Blocks, demand: Demand) -> int:
    """S, the most batches that an epoch surely fills; 0: not even one."""
    low, high = 0, blocks.num_images // demand.batch_size + 1
    while high - low > 1:
        middle = (low + high) // 2
        limited = limited_blocks(blocks, demand, middle)
        enough = smallest_batch(limited, demand, middle) >= demand.batch_size
        low, high = (middle, high) if enough else (low, middle)
    return low


def limited_blocks(blocks: Blocks, demand: Demand, steps: int) -> Blocks:
    """``blocks`` with amounts that ``demand`` allows and that go evenly into ``steps`` batches."""
    amounts = blocks.amounts
    most = 1 if demand.num_classes else demand.most_groups
    if most:
        amounts = np.minimum(amounts, most * steps * UNIT)
    total = int(amounts.sum())
    wanted = groups_per_batch(total, demand, steps) * steps * UNIT
    if 0 < wanted < total:
        # Rounded up: the last group of the row must not be missing.
        amounts = np.minimum(amounts, np.ceil(amounts * (wanted / total)).astype(np.int64))
    return dataclasses.replace(blocks, amounts=amounts)


def groups_per_batch(amount: int, demand: Demand, steps: int) -> int:
    """Groups in each of ``steps`` batches that share ``amount`` groups, counted in 1/UNIT."""
    return demand.num_classes or amount // (steps * UNIT)


def smallest_batch(blocks: Blocks, demand: Demand, steps: int) -> int:
    """Images that each of ``steps`` batches gets at least, whatever is drawn.

    It counts each group of the last batch with the smallest size that can lie at its place in the
    row.
    """
    ends = np.cumsum(blocks.amounts)
    total = int(ends[-1]) if len(ends) else 0
    rows = groups_per_batch(total, demand, steps)
    if rows * steps * UNIT > total:
        return 0
    points = np.arange(1, rows + 1) * (steps * UNIT) - 1
    return int(blocks.sizes[np.searchsorted(ends, points, side="right")].sum())


def assign_groups(
    blocks: Blocks, demand: Demand, steps: int, random: np.random.PCG64
) -> EpochGroups:
    """The groups of an epoch in random order among those of a size, and random order of batches."""
    order = np.lexsort((random.random_raw(len(blocks.sizes)), -blocks.sizes))
    shift = int(random.random_raw()) % UNIT
    ends = (np.cumsum(blocks.amounts[order]) - shift + UNIT - 1) // UNIT
    firsts = np.argsort(random.random_raw(steps), kind="stable")
    num_groups = steps * groups_per_batch(int(blocks.amounts.sum()), demand, steps)
    return EpochGroups(order.astype(np.int32), ends, firsts, num_groups)


def fitted_sizes(sizes: NDArray[np.int64], batch_size: int, *, keep_all: bool) -> NDArray[np.int64]:
    """Sizes (g,) of the groups of a batch that has exactly ``batch_size`` images.

    Whole groups are left out at the end unless ``keep_all``; then the largest are made smaller, by
    one image after the other. B is even, so no group ends below two images.
    """
    sizes = sizes.copy()
    if not keep_all:
        kept = int(np.searchsorted(np.cumsum(sizes), batch_size)) + 1
        sizes[kept:] = 0
    level = int(sizes.max())
    while np.minimum(sizes, level).sum() > batch_size:
        level -= 1
    filled: NDArray[np.int64] = np.minimum(sizes, level)
    filled[np.flatnonzero(sizes > level)[: batch_size - filled.sum()]] += 1
    assert filled.sum() == batch_size
    return filled
