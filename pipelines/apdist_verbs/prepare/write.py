"""Writing shards: the options that every source has, and the work behind its own part."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.preparing.labels import alike
from apdist.data.preparing.repeated import repeated
from apdist.data.preparing.shards import Encoder, Item, RefusedError, write_shards
from apdist.data.preparing.tally import Tally
from apdist.data.text import printable
from apdist_verbs.terminal.bounds import at_least
from apdist_verbs.terminal.console import counted, say, table, warn
from apdist_verbs.terminal.progress import progress_bar

DIVIDED = ("query", "gallery")
"""Splits that are searched for, and in."""
FEW_ITEMS = 500
"""Up to so many images, starting processes takes longer than it saves."""
NAMED = 5
"""Files that a message names; where there are more, all are in a file."""


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
        at_least(1, shard_mib=self.shard_mib)
        at_least(0, seed=self.seed)
        check_processes(self.processes)


def check_processes(number: int) -> None:
    """Refuse a number of processes that this machine could only choke on.

    Raises:
        ValueError: it is less than 1, or far more than there are cores.
    """
    cores = os.cpu_count() or 1
    most = max(64, 4 * cores)
    if not 1 <= number <= most:
        raise ValueError(
            f"--processes must be at least 1 and, with {cores} cores, at most {most}; got {number}"
        )


def write(
    items: list[Item],
    encode: Encoder,
    options: Writing,
    *,
    is_strict: bool,
    tally: Tally | None = None,
    has_labels: bool = True,
    beside: Callable[[Catalogue], None] = lambda _: None,
) -> None:
    """Write ``items`` with a progress bar and say what was written and what was left out.

    Args:
        items: what to write.
        encode: makes an image's bytes.
        options: where and how.
        is_strict: a file without a readable image is an error; else it is skipped and counted.
        tally: what was passed over before; None where the images are not a person's own.
        has_labels: the classes of the images say something.
        beside: writes what belongs to the set, as its ground truth.
    """
    refused: list[tuple[str, str]] = []
    remarks = Tally()
    try:
        with progress_bar("writing images", len(items)) as update:
            catalogue = write_shards(
                items,
                encode,
                options.out,
                shard_bytes=options.shard_mib << 20,
                seed=options.seed,
                num_processes=options.processes if len(items) > FEW_ITEMS else 1,
                is_strict=is_strict,
                on_refused=lambda item, reason: refused.append((item.source, reason)),
                on_remark=lambda item, remark: remarks.add(remark, item.source),
                beside=beside,
                progress=update,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; nothing was written to {options.out}") from None
    except RefusedError as error:
        end = "remove them, or use --on-corrupt skip" if is_strict else "nothing written"
        raise ValueError(f"{named(refused, options.out, str(error))}; {end}") from None
    mib = sum(size for size, _ in catalogue.shards.values()) / (1 << 20)
    images, shards = counted(len(catalogue), "image"), counted(len(catalogue.shards), "shard")
    say(f"{options.out}: {images} in {shards}, {mib:.1f} MiB")
    say_splits(catalogue, has_labels=has_labels)
    if refused:
        what = f"skipped {counted(len(refused), 'file')} without a readable image"
        warn(named(refused, options.out, what))
        remarks.add("damaged picture: skipped", min(refused)[0], len(refused))
    if tally is not None:
        tally.update(remarks)
        tally.update(looked_over(catalogue, has_labels=has_labels))
        say_tally(tally)


def named(refused: Sequence[tuple[str, str]], out: str, what: str) -> str:
    """``what`` with the files and why each was refused; all are in a file where they are many."""
    refused = sorted((printable(source), printable(reason)) for source, reason in refused)
    if len(refused) > NAMED:
        path = Path(
            f"{Path(out).name if storage.local_path(out) is None else out.rstrip('/')}-refused.tsv"
        )
        lines = "".join(f"{source}\t{reason}\n" for source, reason in refused)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines, encoding="utf-8")
            what += f", all named in {path}"
        except OSError as error:
            what += f" ({path}, where all would be named, cannot be written: {error.strerror})"
    return f"{what}: " + "; ".join(f"{source} {reason}" for source, reason in refused[:NAMED])


def looked_over(catalogue: Catalogue, *, has_labels: bool = True) -> Tally:
    """What a person should look at in a set: images that come again, classes of nearly one name."""
    tally = repeated(catalogue)
    if not has_labels:
        return tally
    tally.update(alike(codes_and_names(catalogue.column("label_name"))[1]))
    return tally


def say_splits(catalogue: Catalogue, *, has_labels: bool = True) -> None:
    """Images and classes of each split."""
    for split, number in sorted(catalogue.splits().items()):
        if not has_labels:
            say(f"  {split}: {counted(number, 'image')}")
            continue
        counts = Counter(catalogue.select(split).labels.tolist())
        lone = sum(count == 1 for count in counts.values())
        single = counted(lone, "class of a single image is", "classes of a single image are")
        # Queries of one split are searched for in another: each has its positives there.
        note = f"; {single} left out as queries" if lone and split not in DIVIDED else ""
        images = counted(sum(counts.values()), "image")
        say(f"  {split}: {images} of {counted(len(counts), 'class', 'classes')}{note}")


def say_tally(tally: Tally) -> None:
    """What was passed over or changed, as a table; nothing where all was used as it is."""
    rows = [
        [kind, str(number), printable(first)]
        for kind, (number, first) in sorted(tally.kinds.items())
    ]
    if rows:
        table("passed over, or to look at", ["what", "number", "the first"], rows)
