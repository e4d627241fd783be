"""Lists of images in .parquet files, with paths or with the images themselves."""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from apdist.config.json_text import read_json
from apdist.data.preparing.folder import StoredImage
from apdist.data.preparing.tables.tables import Columns, Row, Table, require_columns

BATCH_ROWS = 256


def read_parquet(table: Table, columns: Columns, spool: IO[bytes]) -> list[Row]:
    """The rows of a .parquet file; encoded images in it are appended to the file ``spool``.

    Shards are written in an order of their own, and a column chunk can only be read whole: each
    image must be found by its place.

    Raises:
        ValueError: the file cannot be read, lacks a column, or has a row that cannot be used.
    """
    try:
        file = pq.ParquetFile(table.path)
        there = file.schema_arrow.names
        has_images = columns.image in there
        if not has_images and columns.image != Columns.image:  # asked for by name
            require_columns(table.path, there, ("image", columns.image))
        needed = ("image", columns.image) if has_images else ("path or image", columns.path)
        require_columns(table.path, there, needed, ("label", columns.label))
        for name in (columns.path, columns.label, columns.split, columns.image):
            if there.count(name) > 1:
                raise ValueError(f"{table.path} has two columns {name!r}; keep one")
        wanted = {columns.path, columns.label, columns.split, columns.image} & set(there)
        return list(_parquet_rows(file, columns, sorted(wanted), table, spool))
    except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        if table.path.is_dir() or not table.path.exists():
            state = "is a folder" if table.path.is_dir() else "does not exist"
            raise ValueError(f"{table.path} {state}; give a .parquet file") from error
        if table.path.suffix.lower() in (".csv", ".tsv"):
            verb = "`apdist prepare csv`"
            raise ValueError(f"{table.path} is no Parquet file; use {verb}") from error
        raise ValueError(f"{table.path} cannot be read: {error}") from error


def _parquet_rows(
    file: pq.ParquetFile, columns: Columns, wanted: list[str], table: Table, spool: IO[bytes]
) -> Iterator[Row]:
    class_names = _class_names(file.schema_arrow, columns.label)
    number = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            label = table.label(number, row[columns.label])
            if class_names and label not in class_names and label.lstrip("-").isdigit():
                raise ValueError(
                    f"{table.where(number)}: label {label} has no name among the "
                    f"{len(class_names)} that the file's Hugging Face metadata gives"
                )
            name = class_names.get(label, label)
            split = ""
            if columns.split in wanted:
                said = row[columns.split]
                split = table.split(number, "" if said is None else str(said))
            source, data = _path_and_bytes(row, columns)
            if data is None and not source and columns.image in wanted:
                raise ValueError(f"{table.where(number)}: the image is empty")
            if data is None:
                stored = table.file(number, source)
            elif isinstance(data, bytes):
                stored = StoredImage(spool.name, table.max_side, spool.tell(), len(data))
                spool.write(data)
                # Paths in such tables are often just the file's name, the same one again and again.
                source = f"{table.name or table.path.stem}/{number}/{source}".rstrip("/")
            else:
                kind = type(data).__name__
                raise ValueError(f"{table.where(number)}: the image is of type {kind}, not bytes")
            yield Row(table.where(number), source, label, name, split, stored)


def _path_and_bytes(row: dict[str, Any], columns: Columns) -> tuple[str, Any]:
    """What a row says of its image; the second is None where it has only a path."""
    image = row.get(columns.image)
    if isinstance(image, dict):
        return str(image.get("path") or ""), image.get("bytes")
    return str(row.get(columns.path) or ""), image


def _class_names(schema: pa.Schema, label: str) -> dict[str, str]:
    """The names that Hugging Face's writers keep beside integer labels."""
    try:
        features = read_json(schema.metadata[b"huggingface"])["info"]["features"]
        return {str(number): str(name) for number, name in enumerate(features[label]["names"])}
    except (KeyError, TypeError, ValueError):
        return {}
