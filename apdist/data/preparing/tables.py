"""Lists of images: .csv and .parquet tables with a path or the image itself, label and split."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from apdist.data import storage
from apdist.data.preparing.folder import StoredImage
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.shards import Item
from apdist.data.preparing.splits import SPLIT_PATTERN

BATCH_ROWS = 256


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
    """Of the class."""
    split: str
    """Empty where the table has no such column."""
    stored: StoredImage


class Table:
    """Checks what it is given row by row: the first row that cannot be used is named.

    Args:
        path: the table.
        root: folder that paths start from.
        max_side: most pixels of an image's longer side; 0 leaves it.
        unit: what its numbers count, rows or lines of a text.
    """

    def __init__(self, path: Path, root: Path, max_side: int, unit: str = "row") -> None:
        self.path, self.root, self.max_side, self.unit = path, root, max_side, unit
        self.seen: dict[str, int] = {}

    def where(self, number: int) -> str:
        """Table and place in it."""
        return f"{self.path} {self.unit} {number}"

    def file_row(self, number: int, path: str, label: str, name: str, split: str) -> Row:
        """A row whose image is a file under the root.

        Raises:
            ValueError: no path or label, no such file, the same file again.
        """
        where = self.where(number)
        if not path:
            raise ValueError(f"{where}: the path is empty")
        if storage.local_path(path) is None:
            raise ValueError(f"{where}: {path!r} is no local file; copy the images here first")
        file = os.path.normpath(self.root / path)
        if not os.path.isfile(file):
            fault = "is a folder" if os.path.isdir(file) else "does not exist"
            raise ValueError(f"{where}: {file} {fault}; check the path or --root")
        if (before := self.seen.setdefault(file, number)) != number:
            raise ValueError(f"{where}: {path!r} is in {self.unit} {before} already; keep one")
        return self.row(number, path, label, name, split, StoredImage(file, self.max_side))

    def row(
        self, number: int, source: str, label: str, name: str, split: str, stored: StoredImage
    ) -> Row:
        """A row whose image is known to be there.

        Raises:
            ValueError: no label, or a split that is no plain word.
        """
        where = self.where(number)
        if not label:
            raise ValueError(f"{where}: the label is empty")
        if split and not SPLIT_PATTERN.fullmatch(split):
            raise ValueError(f"{where}: split {split!r} is no plain word like train")
        return Row(where, source, label, name, split, stored)


def read_csv(path: Path, columns: Columns, root: Path, max_side: int) -> list[Row]:
    """The rows of a .csv or .tsv file with a header.

    Raises:
        ValueError: the file cannot be read, lacks a column, or has a row that cannot be used.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",\t;", key=header.count)
            rows = csv.DictReader(file, delimiter=delimiter, strict=True)
            there = list(rows.fieldnames or ())
            _require(path, there, ("path", columns.path), ("label", columns.label))
            if len(set(there)) < len(there):
                twice = next(name for name in there if there.count(name) > 1)
                raise ValueError(f"{path} has two columns {twice!r}; keep one")
            table = Table(path, root, max_side, unit="line")
            found = []
            for row in rows:
                number = rows.line_num  # blank lines count, as in an editor
                if None in row:
                    raise ValueError(
                        f"{table.where(number)} has more cells than the header has columns; "
                        'a text with a comma needs quotes: "Rose, red"'
                    )
                text = {name: (value or "").strip() for name, value in row.items()}
                label = text[columns.label]
                split = _split(table, number, text[columns.split]) if columns.split in there else ""
                found.append(table.file_row(number, text[columns.path], label, label, split))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8; save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return found


def read_parquet(
    path: Path, columns: Columns, root: Path, max_side: int, spool: IO[bytes]
) -> list[Row]:
    """The rows of a .parquet file; encoded images in it are appended to the file ``spool``.

    Shards are written in an order of their own, and a column chunk can only be read whole: each
    image must be found by its place.

    Raises:
        ValueError: the file cannot be read, lacks a column, or has a row that cannot be used.
    """
    try:
        file = pq.ParquetFile(path)
        there = file.schema_arrow.names
        has_images = columns.image in there
        if not has_images and columns.image != Columns.image:  # asked for by name
            _require(path, there, ("image", columns.image))
        needed = ("image", columns.image) if has_images else ("path or image", columns.path)
        _require(path, there, needed, ("label", columns.label))
        wanted = {columns.path, columns.label, columns.split, columns.image} & set(there)
        return list(
            _parquet_rows(file, columns, sorted(wanted), Table(path, root, max_side), spool)
        )
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _parquet_rows(
    file: pq.ParquetFile, columns: Columns, wanted: list[str], table: Table, spool: IO[bytes]
) -> Iterator[Row]:
    class_names = _class_names(file.schema_arrow, columns.label)
    number = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            label = _label(table, number, row[columns.label])
            if class_names and label not in class_names and label.lstrip("-").isdigit():
                raise ValueError(
                    f"{table.where(number)}: label {label} has no name among the "
                    f"{len(class_names)} that the file's Hugging Face metadata gives"
                )
            name = class_names.get(label, label)
            split = ""
            if columns.split in wanted:
                split = _split(table, number, str(row[columns.split] or ""))
            path, data = _path_and_bytes(row, columns)
            if data is None:
                yield table.file_row(number, path, label, name, split)
                continue
            if not isinstance(data, bytes):
                kind = type(data).__name__
                raise ValueError(f"{table.where(number)}: the image is of type {kind}, not bytes")
            stored = StoredImage(spool.name, table.max_side, spool.tell(), len(data))
            spool.write(data)
            # Paths in such tables are often just the file's name, the same one again and again.
            source = f"{table.path.stem}/{number}/{path}".rstrip("/")
            yield table.row(number, source, label, name, split, stored)


def _path_and_bytes(row: dict[str, Any], columns: Columns) -> tuple[str, Any]:
    """What a row says of its image; the second is None where it has only a path."""
    image = row.get(columns.image)
    if isinstance(image, dict):
        return str(image.get("path") or ""), image.get("bytes")
    return str(row.get(columns.path) or ""), image


def _label(table: Table, number: int, value: Any) -> str:
    if value is None or value == "":
        raise ValueError(f"{table.where(number)}: the label is empty")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(
            f"{table.where(number)}: label {value!r} is neither a text nor a whole number"
        )
    return str(value)


def _split(table: Table, number: int, value: str) -> str:
    if not value:
        raise ValueError(f"{table.where(number)}: the split is empty")
    return value


def _class_names(schema: pa.Schema, label: str) -> dict[str, str]:
    """The names that Hugging Face's writers keep beside integer labels."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {str(number): str(name) for number, name in enumerate(features[label]["names"])}
    except (KeyError, TypeError, ValueError):
        return {}


def _require(path: Path, there: list[str], *needed: tuple[str, str]) -> None:
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
