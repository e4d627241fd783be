"""Columns of a Parquet file, read when they are first asked for, from disk or object storage."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.storage.local import unreadable

BLOCK_BYTES = 1 << 20
"""Least that is read at once."""


class StoredColumns:
    """Rows of a Parquet file; a column is read once, and only the row groups that hold the rows.

    Args:
        uri: the file.
        schema: type of each column that may be asked for.

    Raises:
        ValueError: the file is no Parquet file, damaged, or lacks a column.
    """

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self.uri, self.schema = storage.shown(uri), schema  # for messages
        self.file = self._intact(
            # Checksums: a flipped bit in a number would go unnoticed.
            lambda: pq.ParquetFile(parquet_source(uri), page_checksum_verification=True)
        )
        missing = set(schema.names) - set(self.file.schema_arrow.names)
        if missing:
            raise ValueError(
                f"{self.uri} lacks the column {', '.join(sorted(missing))}; prepare the catalogue "
                "again"
            )
        self.rows: range | NDArray[np.int64] = range(self.file.metadata.num_rows)
        self._known: dict[str, pa.ChunkedArray] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def metadata(self, key: str) -> Any:
        """The JSON value of ``key`` in the file's metadata; None: there is none."""
        text = (self.file.schema_arrow.metadata or {}).get(key.encode())
        return None if text is None else read_json(text)

    def subset(self, places: range | NDArray[np.int64]) -> "StoredColumns":
        """The rows at ``places``, in ascending order; nothing is read or copied."""
        part = object.__new__(StoredColumns)
        part.uri, part.schema, part.file = self.uri, self.schema, self.file
        if isinstance(places, range) and isinstance(self.rows, range):
            part.rows = self.rows[places.start : places.stop]
        else:
            part.rows = np.asarray(self.rows)[np.asarray(places)]
        part._known = {}
        return part

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of these rows, which is kept."""
        if name not in self._known:
            groups, first = self._row_groups()
            column = self._read(groups, [name]).column(0)
            if isinstance(self.rows, range):
                column = column.slice(self.rows.start - first, len(self.rows))
            else:
                column = column.take(row_numbers(self.rows - first))
            self._known[name] = column
        return self._known[name]

    def parts(self, names: list[str]) -> Iterator[pa.Table]:
        """All rows of the file, one row group at a time; they are not kept."""
        for group in range(self.file.num_row_groups):
            yield self._read([group], names)

    def _read(self, groups: list[int], names: list[str]) -> pa.Table:
        def read() -> pa.Table:
            table = self.file.read_row_groups(groups, columns=names).select(names)
            table = table.replace_schema_metadata(None)
            table = table.cast(pa.schema([self.schema.field(name) for name in names]))
            expected = sum(self.file.metadata.row_group(group).num_rows for group in groups)
            if len(table) != expected:
                raise ValueError(f"expected {expected} rows, got {len(table)}")
            return table

        return self._intact(read)

    def _row_groups(self) -> tuple[list[int], int]:
        """The row groups that hold these rows, and the number of their first row."""
        if not len(self.rows):
            return [], 0
        metadata = self.file.metadata
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        ends = np.cumsum(counts)
        first, last = np.searchsorted(ends, [self.rows[0], self.rows[-1]], side="right").tolist()
        return list(range(first, last + 1)), int(ends[first] - counts[first])

    def _intact(self, read: Any) -> Any:
        try:
            return read()
        except storage.StorageError:
            raise
        except PermissionError as error:
            raise unreadable(self.uri) from error
        # Arrow's own errors are ValueErrors, or, for damaged pages, plain OSErrors.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ValueError(
                f"{self.uri} is no catalogue of apdist or is damaged; prepare it again"
            ) from error


def numbers(column: pa.Array) -> NDArray[Any]:
    """A column of numbers without a missing one, (n,), not copied.

    `to_numpy` would load pandas first, a quarter of a second before a mistake is refused.
    """
    return np.from_dlpack(column)


def row_numbers(rows: NDArray[np.int64]) -> pa.Array:
    """Row numbers (n,) for Arrow's `take`, not copied; `pa.array` would load pandas too."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])


def parquet_source(uri: str) -> Any:
    """What Arrow reads: an open file stays the same if another takes its place."""
    return storage.local_path(uri) or io.BufferedReader(_RangeFile(uri), BLOCK_BYTES)


class _RangeFile(io.RawIOBase):
    """An object as a file of ranged reads; if it is replaced meanwhile, that is an error."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.uri, self.position = uri, 0
        self.version = storage.version(uri)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.version.size}[whence]
        self.position = start + offset
        return self.position

    def readinto(self, target: Any) -> int:
        size = max(0, min(len(target), self.version.size - self.position))
        if size:
            target[:size] = storage.read_range(self.uri, self.position, size, self.version.etag)
        self.position += size
        return size
