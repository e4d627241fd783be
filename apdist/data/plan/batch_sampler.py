"""The batch sampler: the batch of step t is a pure function of labels, options, seed and t.

No image is read. An epoch is planned class by class, a batch when it is asked for, so any step
costs the same. All randomness comes from the raw output of PCG64, which numpy keeps the same in
every version and on every machine: whoever asks, for whichever worker, gets the same rows.

Sizes: n images of the split, B images in a batch, K images in a group, c classes.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apdist.config import Config
from apdist.data.plan.group_sampler import (
    Demand,
    EpochGroups,
    assign_groups,
    fitted_sizes,
    limited_blocks,
    smallest_batch,
    steps_per_epoch,
)
from apdist.data.plan.groups import (
    CLASS_WEIGHTS,
    UNIT,
    Blocks,
    classes_of,
    covering_blocks,
    drawn_blocks,
)

_EPOCH, _BATCH = 1, 2
"""Independent random streams of one seed."""


@dataclass(frozen=True)
class PlanSummary:
    """What a plan uses and what it leaves out."""

    num_images: int
    """Images of the classes that are used."""
    num_classes: int
    """Classes with at least two images."""
    num_lone_classes: int
    """Classes with a single image; left out, because that query would have no positive."""
    num_capped_classes: int
    """Classes that come up less often than their weight says, because of the cap."""
    steps_per_epoch: int


@dataclass(frozen=True)
class _Epoch:
    groups: EpochGroups
    rotations: NDArray[np.int64]
    """(c,) image of each class that its first group begins with."""


class Plan:
    """Class-balanced global batches of exactly ``batch_size`` images.

    Every image of a batch has another image of its class in it, and is used at most once an epoch.
    With class_weights ``images`` and no other demand, an epoch has all images except the rest that
    fills no batch. Otherwise it is the longest one in which every class comes up as often as asked
    for, and no image twice.

    Args:
        labels: (n,) class of each image, in the order of the shards.
        batch_size: B, even.
        group_size: K, at least 2: most images of a group.
        seed: decides every batch.
        class_weights: how often a class comes up: ``images``, as its number of images (all images
            equally often); ``classes``, all classes equally often; ``sqrt``, as the square root of
            its number of images.
        classes_per_batch: exact number of different classes in a batch, of one group each; 0: as
            it comes.
        max_groups_per_class: most groups of one class in a batch, whatever its weight; 0: as it
            comes.

    Raises:
        ValueError: an argument is not as described, or one epoch cannot fill a batch; the message
            says what can be filled.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        *,
        batch_size: int,
        group_size: int,
        seed: int,
        class_weights: str = "images",
        classes_per_batch: int = 0,
        max_groups_per_class: int = 0,
    ) -> None:
        _refuse_sizes(batch_size, group_size, classes_per_batch, max_groups_per_class)
        if class_weights not in CLASS_WEIGHTS:
            raise ValueError(
                f"class_weights must be one of {', '.join(CLASS_WEIGHTS)}, got {class_weights!r}"
            )
        labels = np.asarray(labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be (n,) whole numbers, got {labels.dtype} of shape {labels.shape}; "
                "number the classes"
            )
        self.seed = seed
        self.demand = Demand(batch_size, classes_per_batch, max_groups_per_class)
        self.classes = classes_of(labels)
        if class_weights == "images" and not classes_per_batch and not max_groups_per_class:
            blocks = covering_blocks(self.classes.sizes, group_size)
        else:
            blocks = drawn_blocks(self.classes.sizes, group_size, class_weights)
        steps = steps_per_epoch(blocks, self.demand)
        if not steps:
            raise ValueError(_unfillable(blocks, self.demand, group_size))
        self.blocks = limited_blocks(blocks, self.demand, steps)
        self.summary = PlanSummary(
            num_images=int(self.classes.sizes.sum()),
            num_classes=len(self.classes.sizes),
            num_lone_classes=self.classes.num_lone,
            num_capped_classes=_num_capped(blocks, self.demand, steps),
            steps_per_epoch=steps,
        )
        # Two epochs, because the loader reads ahead into the next one.
        self._epoch = functools.lru_cache(maxsize=2)(self._plan_epoch)

    def rows(self, step: int) -> NDArray[np.int64]:
        """(B,) positions in ``labels`` of the global batch of ``step``, groups together."""
        epoch, position = self.epoch_of(step)
        now = self._epoch(epoch)
        blocks, numbers = now.groups.of_batch(position)
        mixed = np.argsort(
            self._random(_BATCH, epoch, position).random_raw(len(blocks)), kind="stable"
        )
        blocks, numbers = blocks[mixed], numbers[mixed]
        whole = self.blocks.sizes[blocks]
        sizes = fitted_sizes(whole, self.demand.batch_size, keep_all=self.demand.num_classes > 0)
        classes = self.blocks.classes[blocks]
        firsts = now.rotations[classes] + self.blocks.offsets[blocks] + numbers * whole
        inside = np.arange(self.demand.batch_size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        turned = (np.repeat(firsts, sizes) + inside) % np.repeat(self.classes.sizes[classes], sizes)
        places = np.repeat(self.classes.starts[classes], sizes) + turned
        rows: NDArray[np.int64] = self.classes.order[places].astype(np.int64)
        return rows

    def epoch_of(self, step: int) -> tuple[int, int]:
        """Epoch of ``step`` and its place in it; all epochs have the same number of steps."""
        return divmod(step, self.summary.steps_per_epoch)

    def _plan_epoch(self, epoch: int) -> _Epoch:
        random = self._random(_EPOCH, epoch)
        groups = assign_groups(self.blocks, self.demand, self.summary.steps_per_epoch, random)
        sizes = self.classes.sizes
        rotations = random.random_raw(len(sizes)) % sizes.astype(np.uint64)
        return _Epoch(groups, rotations.astype(np.int64))

    def _random(self, *stream: int) -> np.random.PCG64:
        return np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=stream))


def _refuse_sizes(batch_size: object, group_size: object, *limits: object) -> None:
    for name, size, step in (("batch_size", batch_size, 2), ("group_size", group_size, 1)):
        if not isinstance(size, int | np.integer) or size < 2 or size % step:
            even = "an even number" if step == 2 else "a whole number"
            raise ValueError(f"{name} must be {even} of at least 2, got {size!r}")
    if not all(isinstance(limit, int | np.integer) and limit >= 0 for limit in limits):
        raise ValueError(
            "classes_per_batch and max_groups_per_class must be whole numbers of at least 0, got "
            f"{' and '.join(map(repr, limits))}; 0 is no limit"
        )


def build_plan(labels: NDArray[np.int64], config: Config) -> Plan:
    """The plan that ``config`` asks for.

    Raises:
        ValueError: one epoch cannot fill a batch.
    """
    return Plan(
        labels,
        batch_size=config.training.batch_size,
        group_size=config.data.group_size,
        seed=config.training.seed,
        class_weights=config.data.class_weights,
        classes_per_batch=config.data.classes_per_batch,
        max_groups_per_class=config.data.max_groups_per_class,
    )


def _num_capped(blocks: Blocks, demand: Demand, steps: int) -> int:
    most = 1 if demand.num_classes else demand.most_groups
    return int((blocks.amounts > most * steps * UNIT).sum()) if most else 0


def _unfillable(blocks: Blocks, demand: Demand, group_size: int) -> str:
    if not len(blocks.sizes):
        return "no class has two images, so no query would have a positive; add images"
    if demand.num_classes > len(blocks.sizes):
        return (
            f"data.classes_per_batch {demand.num_classes} exceeds the {len(blocks.sizes)} classes "
            "with two images or more; use fewer"
        )
    source, remedy = "an epoch without repetition, in groups", ""
    if demand.num_classes:
        source = f"one group of each of {demand.num_classes} classes (data.classes_per_batch)"
        remedy = ", or a larger --data.group-size"
    elif demand.most_groups:
        source = f"{demand.most_groups} groups of each class (data.max_groups_per_class)"
        remedy = ", or a higher cap"
    found = smallest_batch(limited_blocks(blocks, demand, 1), demand, 1)
    return (
        f"training.batch_size {demand.batch_size} cannot be filled: {source} of up to {group_size} "
        f"images (data.group_size) has {found} images; "
        f"use --training.batch-size {found - found % 2} or less{remedy}"
    )
