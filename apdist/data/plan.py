"""The batch of step t: a pure function of (labels, seed, t). No image is read.

A *group* is up to K images of one class that enter a batch together. In epoch e the groups of a run
(neighbouring images of a class, see `shards`) are windows of K images from a random rotation of it,
so a group is one contiguous read (two where it wraps around), its members change from epoch to
epoch, and so do the images that an epoch leaves over.

Sizes: n images of the split, B images in a batch, K images in a group.
"""

import functools
from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class PlanSummary:
    """What a plan uses and what it leaves out."""

    num_images: int
    """Images of the classes that are used."""
    num_classes: int
    """Classes with at least two images."""
    num_lone_classes: int
    """Classes with a single image; left out, because that query would have no positive."""
    steps_per_epoch: int


class Plan:
    """Class-balanced global batches of exactly ``batch_size`` images.

    Every image of a batch has another image of its class in it, and is used at most once an epoch.

    Args:
        labels: (n,) class of each image, in the order of the shards.
        batch_size: B, even.
        group_size: K, at least 2; a class with fewer images gives groups of all it has.
        seed: decides every batch.

    Raises:
        ValueError: one epoch cannot fill a batch; the message says the largest that it can.
    """

    def __init__(self, labels: np.ndarray, *, batch_size: int, group_size: int, seed: int) -> None:
        self.batch_size, self.group_size, self.seed = batch_size, group_size, seed
        self.runs = _runs(labels, group_size)
        sizes = [size for run in self.runs for size in _group_sizes(len(run), group_size)]
        usable = sum(sizes)
        if usable < batch_size:
            raise ValueError(_unfillable(batch_size, group_size, usable))
        class_sizes = np.unique(labels, return_counts=True)[1]
        # Cutting a group at the end of a batch loses at most two images (see `_fill`).
        uniform = set(sizes) == {group_size} and batch_size % group_size == 0
        self.summary = PlanSummary(
            num_images=sum(len(run) for run in self.runs),
            num_classes=int((class_sizes > 1).sum()),
            num_lone_classes=int((class_sizes == 1).sum()),
            steps_per_epoch=max(1, usable // (batch_size if uniform else batch_size + 2)),
        )
        # Two epochs, because the loader reads ahead into the next one.
        self._batches = functools.lru_cache(maxsize=2)(self._batches_of_epoch)

    def rows(self, step: int) -> np.ndarray:
        """(B,) positions in ``labels`` of the global batch of ``step``, groups together."""
        epoch, position = self.epoch_of(step)
        return np.concatenate(self._batches(epoch)[position])

    def epoch_of(self, step: int) -> tuple[int, int]:
        """Epoch of ``step`` and its place in it; all epochs have the same number of steps."""
        return divmod(step, self.summary.steps_per_epoch)

    def _batches_of_epoch(self, epoch: int) -> list[list[np.ndarray]]:
        random = np.random.default_rng((self.seed, epoch))
        groups = [
            group
            for run in self.runs
            for group in _windows(np.roll(run, -random.integers(len(run))), self.group_size)
        ]
        shuffled = [groups[i] for i in random.permutation(len(groups))]
        return _fill(shuffled, self.batch_size, self.summary.steps_per_epoch)


def _runs(labels: np.ndarray, group_size: int) -> list[np.ndarray]:
    """Stretches of one class that hold a group; what is shorter is pooled with its class."""
    if len(labels) == 0:
        return []
    stretches = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(labels)) + 1)
    long: dict[int, list[np.ndarray]] = defaultdict(list)
    short: dict[int, list[np.ndarray]] = defaultdict(list)
    for stretch in stretches:
        kind = long if len(stretch) >= group_size else short
        kind[int(labels[stretch[0]])].append(stretch)
    for label, pieces in short.items():
        pool = np.concatenate(pieces)
        if len(pool) == 1 and long[label]:
            long[label][-1] = np.concatenate([long[label][-1], pool])
        elif len(pool) > 1:
            long[label].append(pool)
    return [run for _, runs in sorted(long.items()) for run in runs]


def _group_sizes(length: int, group_size: int) -> list[int]:
    return [length] if length < group_size else [group_size] * (length // group_size)


def _windows(run: np.ndarray, group_size: int) -> list[np.ndarray]:
    edges = np.cumsum([0, *_group_sizes(len(run), group_size)])
    return [run[start:stop] for start, stop in pairwise(edges)]


def _fill(groups: list[np.ndarray], batch_size: int, num_batches: int) -> list[list[np.ndarray]]:
    """Cut the sequence of groups into batches of exactly ``batch_size`` images.

    The group at the end of a batch is divided between two batches. No part may be a single image:
    where one would be, that image is dropped for the epoch.
    """
    waiting = deque(groups)
    return [_next_batch(waiting, batch_size) for _ in range(num_batches)]


def _next_batch(waiting: deque[np.ndarray], batch_size: int) -> list[np.ndarray]:
    batch: list[np.ndarray] = []
    room = batch_size
    while room > 0:
        group = waiting.popleft()
        if room == 1:
            # The batch is even, so an odd group, of three or more, is in it: shorten that one.
            odd = next(i for i, other in enumerate(batch) if len(other) % 2)
            batch[odd] = batch[odd][:-1]
            room = 2
        batch.append(group[:room])
        rest = group[room:]
        room -= len(batch[-1])
        if len(rest) > 1:
            waiting.appendleft(rest)
    return batch


def _unfillable(batch_size: int, group_size: int, usable: int) -> str:
    if usable < 2:
        return "no class has two images, so no query would have a positive; add images"
    return (
        f"training.batch_size {batch_size} cannot be filled: an epoch of groups of up to "
        f"{group_size} images (data.group_size) has {usable} images; "
        f"use --training.batch-size {usable - usable % 2} or less"
    )
