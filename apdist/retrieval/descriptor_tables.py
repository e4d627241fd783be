"""Descriptors in Parquet files, as `apdist extract` writes them, read part by part.

Shapes: n descriptors, d descriptor size, c of them in a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.data import storage
from apdist.data.catalogue.columns import parquet_source
from apdist.retrieval.ranks import IMAGES_PER_TILE
from apdist.retrieval.stored.writing import MODEL_COLUMN

DESCRIPTOR_COLUMN, KEY_COLUMN = "descriptor", "key"
_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True)
class DescriptorTables:
    """The descriptors of a folder of Parquet files, of one model and one size."""

    uris: tuple[str, ...]
    """The files."""
    num_rows: int
    """n."""
    model_id: str
    """Of the model that described."""

    def parts(self) -> Iterator[NDArray[np.float32]]:
        """(c, d) float32, one part in memory and the next on its way."""
        read = (part for uri in self.uris for part in self._read(uri))
        with ThreadPoolExecutor(1, thread_name_prefix="distractors") as ahead:
            following = ahead.submit(next, read, None)
            while (part := following.result()) is not None:
                following = ahead.submit(next, read, None)
                yield part

    def described(self) -> Iterator[tuple[NDArray[np.float32], pa.Table]]:
        """(c, d) float32 and the other columns of these rows, (c)."""
        for uri in self.uris:
            with _opened(uri) as file:
                try:
                    for batch in file.iter_batches(IMAGES_PER_TILE, use_threads=False):
                        self._check_model(uri, batch.column(MODEL_COLUMN))
                        entries = pa.Table.from_batches([batch])
                        others = entries.drop_columns([MODEL_COLUMN, DESCRIPTOR_COLUMN])
                        yield _rows(uri, batch.column(DESCRIPTOR_COLUMN)), others
                except (pa.ArrowException, OSError) as error:
                    raise _damaged(uri) from error

    def column(self, name: str) -> pa.ChunkedArray:
        """(n,) one column of texts.

        Raises:
            ValueError: a table does not have it.
        """
        found: list[pa.Array] = []
        for uri in self.uris:
            with _opened(uri) as file:
                if name not in file.schema_arrow.names:
                    raise ValueError(f"{uri} has no column {name!r}; write it into the table")
                column = file.read(columns=[name]).column(name)
                found += column.cast(pa.string()).chunks
        return pa.chunked_array(found, pa.string())

    def rows_of(self, keys: Sequence[str]) -> Tensor:
        """(k, d) float32 descriptors of the images with these ``keys``, in their order.

        Raises:
            ValueError: some have none.
        """
        places = {key: place for place, key in enumerate(keys)}
        found: Tensor | None = None
        is_missing = np.ones(len(keys), dtype=bool)
        for uri in self.uris:
            with _opened(uri) as file:
                names = file.read(columns=[KEY_COLUMN]).column(KEY_COLUMN).to_pylist()
            wanted = [places.get(name, -1) for name in names]
            begin = 0
            for part in self._read(uri):
                rows = np.array(wanted[begin : begin + len(part)])
                begin += len(part)
                if found is None:
                    found = torch.empty((len(keys), part.shape[1]))
                found[rows[rows >= 0]] = torch.from_numpy(part[rows >= 0])
                is_missing[rows[rows >= 0]] = False
        if found is None or is_missing.any():
            missing = [keys[place] for place in np.flatnonzero(is_missing).tolist()]
            raise ValueError(
                f"{len(missing):,} of {len(keys):,} images have no descriptor in "
                f"{self.uris[0].rpartition('/')[0]}, the first is {missing[0]!r}; let `apdist "
                "extract` come to its end"
            )
        return found

    def _read(self, uri: str) -> Iterator[NDArray[np.float32]]:
        with _opened(uri) as file:
            try:
                names = [DESCRIPTOR_COLUMN, MODEL_COLUMN]
                for batch in file.iter_batches(IMAGES_PER_TILE, columns=names, use_threads=False):
                    self._check_model(uri, batch.column(MODEL_COLUMN))
                    yield _rows(uri, batch.column(DESCRIPTOR_COLUMN))
            except (pa.ArrowException, OSError) as error:
                raise _damaged(uri) from error

    def _check_model(self, uri: str, models: pa.Array) -> None:
        others = [str(name) for name in models.unique().to_pylist() if name != self.model_id]
        if others:
            raise ValueError(
                f"{uri} holds descriptors of model {others[0]}, not of {self.model_id}; describe "
                "all of them with the run's model: apdist extract"
            )


def open_tables(uri: str, *, width: int = 0, model_id: str) -> DescriptorTables:
    """The descriptor tables in the folder ``uri``; their rows are checked while they are read.

    Args:
        uri: of the folder.
        width: size of a descriptor; 0: any.
        model_id: of what described.

    Raises:
        ValueError: there are none, they are damaged or of another size.
    """
    names = sorted(storage.list_files(uri, ".parquet")) if not uri.endswith(".parquet") else [""]
    if not names:
        raise ValueError(
            f"{uri} holds no .parquet file; write descriptors there: apdist extract --out {uri}"
        )
    uris = tuple(storage.join(uri, name) if name else uri for name in names)
    return DescriptorTables(uris, sum(_checked(found, width) for found in uris), model_id)


def model_of(uri: str) -> str:
    """The model of the first descriptor in the tables at ``uri``.

    Raises:
        ValueError: there is none, or the tables are damaged.
    """
    tables = open_tables(uri, model_id="")
    for table in tables.uris:
        with _opened(table) as file:
            for batch in file.iter_batches(1, columns=[MODEL_COLUMN]):
                return str(batch.column(0)[0].as_py())
    raise ValueError(f"{uri} holds tables without a row; let `apdist extract` come to its end")


def _checked(uri: str, width: int) -> int:
    """Number of rows."""
    with _opened(uri) as file:
        schema = file.schema_arrow
        missing = [n for n in (DESCRIPTOR_COLUMN, MODEL_COLUMN) if n not in schema.names]
        if missing:
            raise ValueError(
                f"{uri} has no column {missing[0]!r}, is no table of apdist extract; found "
                f"{', '.join(schema.names[:6]) or 'none'}; write it with apdist extract"
            )
        kind = schema.field(DESCRIPTOR_COLUMN).type
        is_list = pa.types.is_fixed_size_list(kind) or _has_any_lengths(kind)
        if not is_list or not pa.types.is_floating(kind.value_type):
            raise ValueError(
                f"{uri}: descriptors must be lists of floats of one size, found {kind}; write them "
                "with apdist extract"
            )
        found = _width(uri, file)
        if width and found and found != width:
            raise ValueError(
                f"{uri} holds descriptors of {found} dimensions, the run's model gives {width}; "
                "describe them with the run's model: apdist extract"
            )
        return int(file.metadata.num_rows)


def _has_any_lengths(kind: pa.DataType) -> bool:
    """Whether lists need not be of one length: pandas writes descriptors so."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _width(uri: str, file: pq.ParquetFile) -> int:
    """Size d of the first descriptor of a file; 0: there is none, and the kind does not tell."""
    kind = file.schema_arrow.field(DESCRIPTOR_COLUMN).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    try:
        for batch in file.iter_batches(1, columns=[DESCRIPTOR_COLUMN], use_threads=False):
            return int(_rows(uri, batch.column(0)).shape[1])
    except (pa.ArrowException, OSError) as error:
        raise _damaged(uri) from error
    return 0


def _opened(uri: str) -> pq.ParquetFile:
    try:
        # Without a buffer of its own a column of a row group is read whole: gigabytes.
        return pq.ParquetFile(parquet_source(uri), buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except storage.StorageError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _damaged(uri) from error


def _damaged(uri: str) -> ValueError:
    return ValueError(
        f"{uri} is no Parquet file or is damaged; remove it and run apdist extract again"
    )


def _rows(uri: str, column: pa.Array) -> NDArray[np.float32]:
    """(c, d) float32 of a column of c lists."""
    values = column.flatten()  # passes over lists that are missing
    if column.null_count or values.null_count:
        raise ValueError(f"{uri}: a number is missing; remove it and run apdist extract again")
    if _has_any_lengths(column.type):
        lengths = column.value_lengths().unique().to_pylist()
        if len(lengths) > 1:
            raise ValueError(
                f"{uri} holds descriptors of {lengths[0]} and of {lengths[1]} numbers; expected "
                "one size: write them with apdist extract"
            )
    numbers: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype("f4", copy=False)
    return numbers.reshape(len(column), len(values) // max(len(column), 1))
