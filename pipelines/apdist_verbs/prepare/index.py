"""``apdist prepare index``: a catalogue of WebDataset shards of others, where they lie."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from apdist.data import storage
from apdist.data.catalogue.catalogue import CATALOGUE_NAME
from apdist.data.preparing.cataloguing import Catalogued, catalogue_shards
from apdist.data.preparing.claim import claimed_as_it_is
from apdist.data.preparing.finding import find_shards
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import ShardError
from apdist.data.preparing.tally import Tally
from apdist_verbs.prepare.write import check_processes, looked_over, named, say_tally
from apdist_verbs.terminal.console import counted, say, warn
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.progress import phase, progress_bar


@dataclass(frozen=True, kw_only=True)
class PrepareIndex:
    """Catalogue WebDataset shards in place: one pass over each, nothing is copied or rewritten."""

    uri: Annotated[str, positional("URI")]
    """Folder, s3:// prefix or https:// address that the shards lie under, or one that ends with
    .tar, with braces: s3://BUCKET/train-{000000..000031}.tar."""
    shards: tuple[str, ...] = ()
    """Names with braces, as name-{000000..000031}.tar; else all .tar files under URI."""
    out: Annotated[str, shown_default("beside the shards")] = ""
    """Folder or s3:// prefix for the catalogue, index.parquet, if not beside the shards."""
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
    """Replace a catalogue that is there; passes over unchanged shards are not repeated."""

    def __post_init__(self) -> None:
        check_processes(self.processes)
        if storage.is_read_only(self.uri) and not self.out:
            raise ValueError(
                "--out is needed: index.parquet cannot be written beside shards on https"
            )
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
    path = storage.local_path(uri)
    return uri.lower().endswith(".tar") and (path is None or not path.is_dir())


def prepare_index(options: PrepareIndex) -> int:
    """Catalogue, and say what was found."""
    root, patterns = options.uri.rstrip("/"), options.shards
    if root == "s3:":
        raise ValueError(f"{options.uri!r} names no bucket; expected s3://BUCKET/PREFIX")
    if is_one_shard(options.uri):
        root, _, name = root.rpartition("/")
        root, patterns = root or ".", (name,)
    out = storage.trimmed(options.out) or root
    _refuse_to_replace(out, options)
    tally = Tally()
    with phase("looking for shards"):
        names = find_shards(root, patterns, tally)
    say(f"{counted(len(names), 'shard')} under {root}")
    with claimed_as_it_is(out):
        _refuse_to_replace(out, options)  # another process may have come to its end meanwhile
        result = _catalogued(root, names, out, options)
    tally.update(result.tally)
    report(result, out, tally)
    return 0


def _refuse_to_replace(out: str, options: PrepareIndex) -> None:
    uri = storage.join(out, CATALOGUE_NAME)
    if storage.exists(uri) and not options.overwrite:
        raise ValueError(f"{uri} exists; add --overwrite to replace it, or choose --out")


def _catalogued(root: str, names: list[str], out: str, options: PrepareIndex) -> Catalogued:
    """Read the shards with a progress bar, and write their catalogue."""
    last = 0

    def move(done: int, note: str) -> None:
        nonlocal last
        last = done
        update(done, note)

    try:
        with progress_bar("reading shards", len(names)) as update:
            return catalogue_shards(
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


def report(result: Catalogued, out: str, tally: Tally) -> None:
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
    catalogue = result.catalogue
    uri = storage.join(out, CATALOGUE_NAME)
    say(f"{uri}: {counted(len(catalogue), 'image')} in {counted(len(catalogue.shards), 'shard')}")
    for split, count in sorted(catalogue.splits().items()):
        num_classes = len(set(catalogue.select(split).labels.tolist()))
        images, classes = counted(count, "image"), counted(num_classes, "class", "classes")
        say(f"  {split}: {images} of {classes}")
    tally.update(looked_over(catalogue))
    say_tally(tally)
