"""Writing shards: the options that every source has, and the work behind its own part."""

import os
from collections import Counter
from dataclasses import dataclass

from apdist.data.preparing.shards import Encoder, Item, write_shards
from apdist_verbs.terminal.console import counted, progress_bar, say, warn

FEW_ITEMS = 500
"""Up to so many images, starting processes takes longer than it saves."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How shards are written."""

    out: str
    """Folder or s3:// prefix for the shards; must be empty."""
    shard_mib: int = 64
    """Size in MiB at which a shard is closed."""
    seed: int = 0
    """Seed of the split and of the order inside the shards."""
    processes: int = min(8, os.cpu_count() or 1)
    """Processes that read and encode."""

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("--out is empty; give a folder or an s3:// prefix for the shards")
        if self.shard_mib < 1 or self.processes < 1 or self.seed < 0:
            raise ValueError("--shard-mib and --processes must be at least 1, --seed at least 0")


def write(items: list[Item], encode: Encoder, options: Writing, *, skip: bool) -> None:
    """Write ``items`` with a progress bar and say what was written and what was left out."""
    refused: list[str] = []

    def on_refused(item: Item, reason: str) -> None:
        if not skip:
            raise ValueError(f"{item.source} {reason}; remove it, or use --on-corrupt skip")
        refused.append(f"{item.source} {reason}")

    try:
        with progress_bar("writing images", len(items)) as update:
            catalogue = write_shards(
                items,
                encode,
                options.out,
                shard_bytes=options.shard_mib << 20,
                seed=options.seed,
                num_processes=options.processes if len(items) > FEW_ITEMS else 1,
                on_refused=on_refused,
                progress=lambda done: update(done, ""),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; nothing was written to {options.out}") from None
    for line in refused[:5]:
        warn(f"skipped {line}")
    if refused:
        warn(f"skipped {counted(len(refused), 'file')} without a readable image")
    mib = sum(size for size, _ in catalogue.shards.values()) / (1 << 20)
    images, shards = counted(len(catalogue), "image"), counted(len(catalogue.shards), "shard")
    say(f"{options.out}: {images} in {shards}, {mib:.1f} MiB")
    for split in sorted(catalogue.splits()):
        counts = Counter(catalogue.select(split).labels.tolist())
        lone = sum(count == 1 for count in counts.values())
        single = counted(lone, "class of a single image is", "classes of a single image are")
        note = f"; {single} left out as queries" if lone else ""
        images = counted(sum(counts.values()), "image")
        say(f"  {split}: {images} of {counted(len(counts), 'class', 'classes')}{note}")
