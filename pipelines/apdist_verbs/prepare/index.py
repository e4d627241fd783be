"""``apdist prepare index``: an index of WebDataset shards that others wrote, where they lie."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from apdist.data import storage
from apdist.data.catalogue.catalogue import INDEX_NAME
from apdist.data.preparing.finding import find_shards
from apdist.data.preparing.indexing import Indexed, index_shards
from apdist.data.preparing.repeated import repeated
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import ShardError
from apdist.data.preparing.tally import Tally
from apdist_verbs.prepare.write import named, say_tally
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
        if self.uri.startswith(("https://", "http://")) and not self.out:
            raise ValueError("--out is needed: an index cannot be written beside shards on https")
        if is_one_shard(self.uri) and self.shards:
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


def is_one_shard(uri: str) -> bool:
    """Whether ``uri`` names shards themselves, and no folder of them, whatever that is called."""
    return uri.lower().endswith(".tar") and (storage.is_remote(uri) or not Path(uri).is_dir())


def prepare_index(options: PrepareIndex) -> int:
    """Index, and say what was found."""
    root, patterns = options.uri.rstrip("/"), options.shards
    if root == "s3:":
        raise ValueError(f"{options.uri!r} names no bucket; expected s3://BUCKET/PREFIX")
    if is_one_shard(options.uri):
        root, _, name = root.rpartition("/")
        root, patterns = root or ".", (name,)
    out = options.out.rstrip("/") or root
    index_uri = storage.join(out, INDEX_NAME)
    if storage.exists(index_uri) and not options.overwrite:
        raise ValueError(f"{index_uri} exists; add --overwrite to replace it, or choose --out")
    tally = Tally()
    names = find_shards(root, patterns, tally)
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
    except ShardError as error:
        if not error.problems:
            raise
        parts = counted(len(error.problems), "sample or shard's end", "samples or shards' ends")
        text = named(error.problems, out, f"{parts} cannot be used")
        raise ValueError(f"{text}; mend it, or use --on-corrupt skip") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {last} of {len(names)} shards are read, the same command goes on from there"
        ) from None
    tally.update(result.tally)
    report(result, out, tally)
    return 0


def report(result: Indexed, out: str, tally: Tally) -> None:
    """Say what was found and what was passed over."""
    if result.num_problems:
        parts = counted(result.num_problems, "sample or shard's end", "samples or shards' ends")
        warn(named(result.problems, out, f"skipped {parts}: of no use"))
        kind = "sample or shard's end of no use: skipped"
        tally.add(kind, result.problems[0][0], result.num_problems)
    if result.num_repeated_keys:
        warn(
            f"{counted(result.num_repeated_keys, 'key')} in several shards; shard and key together "
            "tell such images apart"
        )
    if result.num_reused:
        say(f"{counted(result.num_reused, 'shard')} as an earlier run has read them")
    index = result.index
    uri = storage.join(out, INDEX_NAME)
    say(f"{uri}: {counted(len(index), 'image')} in {counted(len(index.shards), 'shard')}")
    for split, count in sorted(index.splits().items()):
        num_classes = len(set(index.select(split).labels.tolist()))
        images, classes = counted(count, "image"), counted(num_classes, "class", "classes")
        say(f"  {split}: {images} of {classes}")
    tally.update(repeated(index))
    say_tally(tally)
