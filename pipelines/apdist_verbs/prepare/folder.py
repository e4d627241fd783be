"""``apdist prepare folder``: a person's own pictures, IMAGES/<class>/<image>."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from apdist.config.values import in_range
from apdist.data import storage
from apdist_verbs.prepare.write import Writing, write
from apdist_verbs.terminal.console import counted, say
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.progress import phase


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What is done with a person's own pictures."""

    split_by_class: float = 0.8
    """Share of the classes that go to the split `train`; the others are `test`."""
    split_file: Annotated[Path, shown_default("none")] = Path()
    """A .csv or .tsv file with the columns path and split, instead of --split-by-class."""
    on_corrupt: Literal["error", "skip"] = "error"
    """What to do with damaged pictures; files that are no pictures are passed over and counted."""
    max_side: int = 0
    """Shrink larger images to this longest side in pixels; 0 keeps every file as it is."""

    def __post_init__(self) -> None:
        if self.max_side < 0:
            raise ValueError(f"--max-side must be 0 or more pixels, got {self.max_side}")
        in_range("--split-by-class", self.split_by_class, 0, 1)
        if self.split_file != Path() and self.split_by_class != Choices.split_by_class:
            raise ValueError(
                f"--split-file {self.split_file} and --split-by-class {self.split_by_class:g} are "
                "two ways to split; give one of them"
            )

    @property
    def is_strict(self) -> bool:
        """Whether a file that is no readable image is an error."""
        return self.on_corrupt == "error"


@dataclass(frozen=True, kw_only=True)
class Pictures(Writing, Choices):
    """How shards are written of them."""

    def __post_init__(self) -> None:
        Writing.__post_init__(self)
        Choices.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class PrepareFolder(Pictures):
    """Write shards from a folder of pictures, IMAGES/<class>/<image>."""

    images: Annotated[Path, positional("IMAGES")]
    """Folder with one folder per class."""


def prepare_folder(options: PrepareFolder) -> int:
    """Write a person's own pictures."""
    with phase("loading"):
        from apdist.data.preparing import folder

    root = options.images
    refuse_inside(options.out, root)
    with phase("looking for pictures"):
        found = folder.scan_folder(root)
    if found.splits and options.split_file == Path():
        splits = found.splits
        names = ", ".join(sorted(set(splits.values())))
        refuse_share(options, f"{root} holds folders of splits ({names}) above the classes")
        say(f"{root} holds folders of splits ({names}) above the classes: used as they are")
    else:
        splits = splits_of(folder.folder_classes(found), options)
    items = folder.folder_items(found, splits, options.max_side)
    write(items, folder.encode_file, options, is_strict=options.is_strict, tally=found.tally)
    return 0


def refuse_share(options: Choices, why: str) -> None:
    """Refuse a share of the classes where splits are given otherwise.

    Raises:
        ValueError: it is not the usual one.
    """
    if options.split_by_class != Choices.split_by_class:
        raise ValueError(
            f"--split-by-class {options.split_by_class:g} has no effect: {why}; leave it out"
        )


def refuse_inside(out: str, root: Path) -> None:
    """Refuse to write into the folder that is read.

    Raises:
        ValueError: ``out`` lies in ``root``.
    """
    path = storage.local_path(out)
    if path is not None and path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"--out {out} lies in {root}, which is read; choose another")


def splits_of(classes: dict[str, list[str]], options: Pictures) -> dict[str, str]:
    """Split of each source that is used."""
    from apdist.data.preparing.splits import read_split_file, split_by_class

    if options.split_file == Path():
        return split_by_class(classes, options.split_by_class, options.seed)
    known = {source for sources in classes.values() for source in sources}
    splits = read_split_file(options.split_file, known)
    if num_left_out := len(known) - len(splits):
        say(f"left out {counted(num_left_out, 'file')} that {options.split_file} does not name")
    return splits
