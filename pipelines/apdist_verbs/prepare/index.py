"""``apdist prepare index``: an index of WebDataset shards that others wrote, where they lie."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from apdist.data import storage
from apdist.data.catalogue.catalogue import INDEX_NAME
from apdist.data.preparing.indexing import Indexed, find_shards, index_shards
from apdist.data.preparing.samples import Rules
from apdist_verbs.terminal.console import counted, progress_bar, say, warn
from apdist_verbs.terminal.options import shown_default


@dataclass(frozen=True, kw_only=True)
class PrepareIndex:
    """Index WebDataset shards in place: one pass over each, nothing is copied or rewritten."""

    uri: Annotated[Positional[str], tyro.conf.arg(metavar="URI")]
    """Folder, s3:// prefix or https:// address that the shards lie under, or one that ends with
    .tar, with braces: s3://BUCKET/train-{000000..000031}.tar."""
    shards: tuple[str, ...] = ()
    """Names with braces, as name-{000000..000031}.tar; else all .tar files under URI."""
    out: Annotated[str, shown_default("beside the shards")] = ""
    """Folder or s3:// prefix for the index, where the shards' own place cannot be written to."""
    label: str = "cls"
    """Where the class is: cls, json:FIELD, or key:PATTERN with one group ( )."""
    names: Annotated[str, shown_default("the label")] = ""
    """Where the name of the class is: txt or json:FIELD."""
    split: str = "train"
    """A word for all, or json:FIELD, or shard:PATTERN with one group ( )."""
    image_extension: Annotated[str, shown_default("the first known one")] = ""
    """Extension of the image in each sample."""
    on_corrupt: Literal["error", "skip"] = "error"
    """What to do with a sample or shard that cannot be used."""
    processes: int = min(8, os.cpu_count() or 1)
    """Processes, one for each shard at a time."""
    overwrite: bool = False
    """Replace an index that is there; passes over unchanged shards are not repeated."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError("--processes must be at least 1")
        if storage.is_read_only(self.uri) and not self.out:
            raise ValueError("--out is needed: an index cannot be written beside shards on https")
        if self.uri.endswith(".tar") and self.shards:
            raise ValueError("give either a URI that ends with .tar or --shards, not both")
        self.rules  # noqa: B018 - checks itself

    @property
    def rules(self) -> Rules:
        """The part about samples."""
        return Rules(
            label=self.label,
            names=self.names,
            split=self.split,
            image_extension=self.image_extension,
        )


def prepare_index(options: PrepareIndex) -> int:
    """Index, and say what was found."""
    root, patterns = storage.trimmed(options.uri), options.shards
    if root.endswith(".tar"):
        root, _, name = root.rpartition("/")
        root, patterns = root or ".", (name,)
    out = storage.trimmed(options.out) or root
    index_uri = storage.join(out, INDEX_NAME)
    if storage.exists(index_uri) and not options.overwrite:
        raise ValueError(f"{index_uri} exists; add --overwrite to replace it, or choose --out")
    names = find_shards(root, patterns)
    say(f"{counted(len(names), 'shard')} under {root}")
    last = 0

    def move(done: int, note: str) -> None:
        nonlocal last
        last = done
        update(done, note)

    try:
        with progress_bar("reading shards", len(names)) as update:
            result = index_shards(
                root,
                names,
                out,
                options.rules,
                skip=options.on_corrupt == "skip",
                num_processes=options.processes,
                progress=move,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {last} of {len(names)} shards are read, the same command goes on from there"
        ) from None
    report(result, index_uri)
    return 0


def report(result: Indexed, uri: str) -> None:
    """Say what was found and what was passed over."""
    for line in result.problems[:5]:
        warn(f"skipped {line}")
    if result.num_problems:
        parts = counted(result.num_problems, "sample or shard's end", "samples or shards' ends")
        warn(f"skipped {parts}: of no use")
    if result.num_repeated_keys:
        warn(
            f"{counted(result.num_repeated_keys, 'key')} in several shards; shard and key together "
            "tell such images apart"
        )
    if result.num_reused:
        say(f"{counted(result.num_reused, 'shard')} as an earlier run has read them")
    index = result.index
    say(f"{uri}: {counted(len(index), 'image')} in {counted(len(index.shards), 'shard')}")
    for split, count in sorted(index.splits().items()):
        num_classes = len(set(index.select(split).labels.tolist()))
        images, classes = counted(count, "image"), counted(num_classes, "class", "classes")
        say(f"  {split}: {images} of {classes}")
