"""``apdist prepare``: pictures to WebDataset shards with a Parquet index."""

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from apdist.config import suggestion
from apdist.data.shards import Encoded, Encoder, Item, write_shards
from pipelines.console import progress_bar, say, warn
from pipelines.options import parse, shown_default

FEW_ITEMS = 500
"""Up to so many images, starting processes takes longer than it saves."""
SOURCES = {
    "folder": "your own pictures: apdist prepare folder IMAGES --out OUT",
    "glyphs": "drawn characters, no network needed: apdist prepare glyphs",
}


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


@dataclass(frozen=True, kw_only=True)
class PrepareFolder(Writing):
    """Write shards from a folder of pictures, IMAGES/<class>/<image>."""

    images: Annotated[Positional[Path], tyro.conf.arg(metavar="IMAGES")]
    """Folder with one folder per class."""
    split_by_class: float = 0.8
    """Share of the classes that go to the split `train`; the others are `test`."""
    split_file: Annotated[Path, shown_default("none")] = Path()
    """A .csv or .tsv file with the columns path and split, instead of --split-by-class."""
    on_corrupt: Literal["error", "skip"] = "error"
    """What to do with a file that is no readable image."""
    max_side: int = 0
    """Shrink larger images to this longest side in pixels; 0 keeps every file as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_side < 0:
            raise ValueError(f"--max-side must be 0 or more pixels, got {self.max_side}")


@dataclass(frozen=True, kw_only=True)
class PrepareGlyphs(Writing):
    """Draw the embedded data set: characters in the typefaces that matplotlib ships."""

    out: str = "data/glyphs"
    """Folder or s3:// prefix for the shards; must be empty."""
    shard_mib: int = 8
    """Size in MiB at which a shard is closed."""
    min_typefaces: int = 12
    """Characters in fewer typefaces are left out."""
    num_test: int = 300
    """Characters kept for evaluation."""
    image_size: int = 64
    """Side of an image in pixels."""
    images_per_glyph: int = 0
    """Images of each character; 0 draws one in each typeface."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if not argv or argv[0] not in SOURCES:
        hint = suggestion(argv[0], SOURCES) if argv else ""
        raise ValueError(
            f"expected `apdist prepare folder` or `apdist prepare glyphs`, "
            f"got {repr(argv[0]) if argv else 'neither'}{hint} (`apdist prepare --help` tells more)"
        )
    prog = f"apdist prepare {argv[0]}"
    if argv[0] == "folder":
        return prepare_folder(parse(PrepareFolder, argv[1:], prog))
    return prepare_glyphs(parse(PrepareGlyphs, argv[1:], prog))


def usage() -> str:
    """Help before the options."""
    lines = [f"  {name:<10}{text}" for name, text in SOURCES.items()]
    return "\n".join(
        [
            "usage: apdist prepare folder|glyphs [OPTIONS]",
            "",
            *lines,
            "",
            "apdist prepare folder --help lists every option",
            "",
        ]
    )


def prepare_folder(options: PrepareFolder) -> int:
    """Write a person's own pictures."""
    from apdist.data import folder

    root = options.images
    found = folder.scan_folder(root)
    if found.num_beside:
        warn(f"{found.num_beside} files lie beside the class folders of {root} and are not used")
    if options.split_file != Path():
        splits = folder.read_split_file(options.split_file, root, found)
        num_left_out = sum(len(paths) for paths in found.files.values()) - len(splits)
        if num_left_out:
            say(f"{num_left_out} files are not in {options.split_file} and are left out")
    else:
        splits = folder.split_by_class(root, found, options.split_by_class, options.seed)
    items = folder.folder_items(root, found, splits, options.max_side)
    write(items, folder.encode_file, options, skip=options.on_corrupt == "skip")
    return 0


def prepare_glyphs(options: PrepareGlyphs) -> int:
    """Draw and write the embedded data set."""
    from apdist.data import glyphs

    found = glyphs.find_glyphs(options.min_typefaces)
    train, test = glyphs.split_glyphs(found, num_test=options.num_test, seed=options.seed)
    labels = {glyph.character: label for label, glyph in enumerate(found)}
    items = [
        Item(
            source=f"{image.glyph.name.replace(' ', '_')}/{image.typeface}.jpg",
            label=labels[image.glyph.character],
            label_name=f"{image.glyph.character} {image.glyph.name}",
            split=split,
            content=image,
        )
        for split, members in (("train", train), ("test", test))
        for image in glyphs.glyph_images(
            members,
            size=options.image_size,
            seed=options.seed,
            images_per_glyph=options.images_per_glyph,
        )
    ]
    write(items, encode_glyph, options, skip=False)
    return 0


def encode_glyph(image: Any) -> Encoded:
    """Draw one glyph image."""
    import io

    picture = image.draw()
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=90)
    return Encoded(target.getvalue(), "jpg", *picture.size)


def write(items: list[Item], encode: Encoder, options: Writing, *, skip: bool) -> None:
    """Write ``items`` with a progress bar and say what was written and what was left out."""
    refused: list[str] = []

    def on_refused(item: Item, reason: str) -> None:
        if not skip:
            raise ValueError(f"{item.source} {reason}; remove it, or use --on-corrupt skip")
        refused.append(f"{item.source} {reason}")

    try:
        with progress_bar("writing images", len(items)) as update:
            index = write_shards(
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
        warn(f"skipped {len(refused)} files that are no readable image")
    mib = sum(size for size, _ in index.shards.values()) / (1 << 20)
    say(f"{options.out}: {len(index)} images in {len(index.shards)} shards, {mib:.1f} MiB")
    for split in sorted(index.splits()):
        counts = Counter(index.select(split).labels.tolist())
        lone = sum(count == 1 for count in counts.values())
        note = f"; {lone} have a single image and are left out as queries" if lone else ""
        say(f"  {split}: {sum(counts.values())} images of {len(counts)} classes{note}")
