"""``apdist prepare stats``: classes, images per class, bytes, and what an epoch uses of them."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.preparing.statistics import (
    SplitStatistics,
    bars,
    histogram,
    images_per_epoch,
    split_statistics,
)
from apdist_verbs.prepare.trainable import BATCH_SIZE, say_training
from apdist_verbs.presets import preset
from apdist_verbs.terminal.console import say, table
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.progress import phase


@dataclass(frozen=True, kw_only=True)
class PrepareStats:
    """Say what a catalogue holds."""

    uri: Annotated[str, positional("URI")]
    """Folder or s3:// prefix with the shards' catalogue, index.parquet."""
    preset: str = "folder"
    """Preset whose batch an epoch is counted in."""
    group_size: Annotated[int, shown_default("that of the preset")] = 0
    """Images of a class that enter a batch together."""
    batch_size: Annotated[int, shown_default("that of the preset")] = 0
    """Images in a global batch."""

    def __post_init__(self) -> None:
        start = preset(self.preset)
        if self.group_size and self.group_size < 2:
            raise ValueError(f"--group-size must be at least 2, got {self.group_size}")
        if self.batch_size < 0 or self.batch_size % 2:
            raise ValueError(f"--batch-size must be even and at least 2, got {self.batch_size}")
        object.__setattr__(self, "group_size", self.group_size or start.data.group_size)
        object.__setattr__(self, "batch_size", self.batch_size or start.training.batch_size)


def prepare_stats(options: PrepareStats) -> int:
    """Print a table, a histogram for each split, and what an epoch uses."""
    with phase("reading the catalogue"):
        catalogue = read_catalogue(options.uri)
    if not len(catalogue):
        raise ValueError(f"the catalogue under {options.uri} holds no image")
    splits = sorted(catalogue.splits())
    parts = {split: catalogue.select(split) for split in splits}
    figures = {split: split_statistics(part) for split, part in parts.items()}
    columns = ["split", "images", "classes", "lone", "min", "median", "mean", "max"]
    rows = [[split, *row(figures[split])] for split in splits]
    table("images per class", [*columns, "shards", "MiB"], rows)
    for split in splits:
        say(f"{split}: classes by their number of images")
        for line in bars(histogram(figures[split].class_sizes)):
            say(f"  {line}")
    no_epoch = set()
    for split in splits:
        try:
            say(f"{split}: {epoch(parts[split].labels, options)}")
        except ValueError as error:
            say(f"{split}: no epoch: {error}")
            no_epoch.add(split)
    if preset(options.preset).data.train_split not in no_epoch:
        wanted = {"data.group_size": options.group_size, BATCH_SIZE: options.batch_size}
        say_training(options.uri, options.preset, wanted)
    return 0


def row(figures: SplitStatistics) -> list[str]:
    """Cells of a split."""
    sizes = figures.class_sizes
    return [
        str(figures.num_images),
        str(len(sizes)),
        str(figures.num_lone),
        str(sizes.min()),
        f"{np.median(sizes):g}",
        f"{sizes.mean():.1f}",
        str(sizes.max()),
        str(figures.num_shards),
        f"{figures.num_bytes / (1 << 20):.1f}",
    ]


def epoch(labels: NDArray[np.int64], options: PrepareStats) -> str:
    """What an epoch of training would use.

    Raises:
        ValueError: it cannot fill a batch.
    """
    steps, used = images_per_epoch(labels, options.batch_size, options.group_size)
    return (
        f"an epoch is {steps} batches of {options.batch_size} in groups of up to "
        f"{options.group_size}: {used} of {len(labels)} images"
    )
