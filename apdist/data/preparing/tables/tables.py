"""Lists of images: .csv and .parquet tables with a path or the image itself, label and split."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from apdist.data import storage
from apdist.data.preparing.folder import StoredImage
from apdist.data.preparing.kinds import COMPOSED, SPACES
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.shards import Item
from apdist.data.preparing.splits import SPLIT_PATTERN
from apdist.data.preparing.tally import Tally
from apdist.data.text import composed, shown_name


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column holds what."""

    path: str = "path"
    label: str = "label"
    split: str = "split"
    """Used where the table has it."""
    image: str = "image"
    """Encoded images: bytes, or a struct with the fields bytes and path. Only in .parquet."""


@dataclass(frozen=True)
class Row:
    """One image of a table."""

    where: str
    """Table and row, for messages."""
    source: str
    label: str
    name: str
    """Name of the class."""
    split: str
    """Empty where the table has no such column."""
    stored: StoredImage


@dataclass
class Table:
    """Checks what it is given row by row: the first row that cannot be used is named."""

    path: Path
    root: Path
    """Folder that paths start from."""
    max_side: int = 0
    """Most pixels of an image's longer side; 0 leaves it."""
    name: str = ""
    """What sources of images inside the table begin with; different for each table."""
    tally: Tally = field(default_factory=Tally)
    unit: str = "row"
    """What its numbers count, rows or lines of a text."""
    seen: dict[str, int] = field(default_factory=dict)
    """File to the row it was in."""

    def where(self, number: int) -> str:
        """Table and place in it."""
        return f"{self.path} {self.unit} {number}"

    def label(self, number: int, value: Any) -> str:
        """The label as text, without spaces around it and in one Unicode normal form.

        Raises:
            ValueError: it is empty, or neither a text nor a whole number.
        """
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"{self.where(number)}: the label is empty")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(
                f"{self.where(number)}: label {value!r} is neither a text nor a whole number"
            )
        if (bare := str(value).strip()) != str(value):
            self.tally.add(SPACES, self.where(number))
        if (text := composed(bare)) != bare:
            self.tally.add(COMPOSED, self.where(number))
        return text

    def split(self, number: int, value: str) -> str:
        """The split.

        Raises:
            ValueError: it is empty or no plain word.
        """
        if not value:
            raise ValueError(f"{self.where(number)}: the split is empty")
        if not SPLIT_PATTERN.fullmatch(value):
            raise ValueError(f"{self.where(number)}: split {value!r} is no plain word like train")
        return value

    def file(self, number: int, path: str) -> StoredImage:
        """The file at ``path``, from the root or as a file:// address.

        Raises:
            ValueError: no path, no such file, the same file again.
        """
        where = self.where(number)
        if not path:
            raise ValueError(f"{where}: the path is empty")
        file = os.path.normpath(self.root / _local_path(where, path))
        if not os.path.isfile(file):
            raise ValueError(f"{where}: {shown_name(file)} {_fault(file)}")
        if (before := self.seen.setdefault(file, number)) != number:
            raise ValueError(f"{where}: {path!r} is in {self.unit} {before} already; keep one")
        return StoredImage(file, self.max_side)


def _local_path(where: str, path: str) -> str:
    if path.lower().startswith("file:"):
        parts = urlsplit(path)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"{where}: {path!r} names a machine, {parts.netloc!r}; write file:///")
        return unquote(parts.path, errors="surrogateescape")
    try:
        if storage.local_path(path) is None:
            address = storage.shown(path)  # it may hold a password, or be signed
            raise ValueError(f"{where}: {address!r} is no local file; copy the images here first")
    except storage.StorageError as error:
        raise ValueError(f"{where}: {error}") from error
    return path


def _fault(file: str) -> str:
    """Why ``file`` is no file, and what to do."""
    if os.path.isdir(file):
        return "is a folder; check the path or --root"
    if os.path.exists(file):
        return "is no regular file; check the path or --root"
    for changed, how in (
        (file.replace("\\", "/"), "with / in place of \\"),
        (unicodedata.normalize("NFC", file), "in the Unicode normal form NFC"),
        (unicodedata.normalize("NFD", file), "in the Unicode normal form NFD"),
    ):
        if os.path.isfile(changed):
            return f"does not exist, but it does {how}; write it so"
    return "does not exist; check the path or --root"


def table_names(paths: Sequence[Path]) -> list[str]:
    """A name for each table: as short as tells them apart, in whatever folders they lie."""
    folders = [path.resolve().parent for path in paths]
    common = os.path.commonpath(folders)
    below = [os.path.relpath(path.resolve(), common) for path in paths]
    for names in ([path.stem for path in paths], [os.path.splitext(name)[0] for name in below]):
        if len(set(names)) == len(names):
            return names
    return below


def require_columns(path: Path, there: list[str], *needed: tuple[str, str]) -> None:
    """Refuse a table without one of the columns; ``needed`` are what each is for and its name.

    Raises:
        ValueError: a column is missing.
    """
    for what, name in needed:
        if name not in there:
            option = what.split()[-1]
            raise ValueError(
                f"{path} has no column {name!r} for the {what}; it has "
                f"{', '.join(there) or 'nothing'}: name one with --{option}-column"
            )


def table_classes(rows: list[Row]) -> dict[str, list[str]]:
    """The sources of each class."""
    classes: dict[str, list[str]] = {label: [] for label in sorted({row.label for row in rows})}
    for row in rows:
        classes[row.label].append(row.source)
    return classes


def table_items(rows: list[Row], splits: dict[str, str]) -> list[Item]:
    """Items of the rows whose source has a split in ``splits``.

    Raises:
        ValueError: two rows have one source.
    """
    numbers = number_labels(row.label for row in rows)
    items: list[Item] = []
    seen: dict[str, str] = {}
    for row in rows:
        if (before := seen.setdefault(row.source, row.where)) != row.where:
            raise ValueError(f"{row.where}: {row.source!r} is in {before} already")
        if row.source in splits:
            split = splits[row.source]
            items.append(Item(row.source, numbers[row.label], row.name, split, row.stored))
    return items
