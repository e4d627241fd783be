"""Write the files of an index part by part: memory does not grow with the number of images.

Shapes: n images, b of a part, d descriptor size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from apdist.arrays import Array
from apdist.given import of_kind, shown
from apdist.retrieval.search_index import unit_descriptors
from apdist.retrieval.stored.folder import DESCRIPTORS, ENTRIES

KEY = "key"
"""Column of entries by which images are removed and replaced; where it is, no two are alike."""
MODEL_COLUMN = "model"
"""Column of entries, where they have it, with the id of the model that described the image."""
Part: TypeAlias = tuple[Array, pa.Table]
"""Descriptors (b, d) and their entries (b)."""
_TABLES = "use pa.table(...) of pyarrow, of a DataFrame pa.Table.from_pandas(...)"
_HEADER_BYTES = 256
_ROWS_PER_GROUP = 1 << 16


class RepeatedError(ValueError):
    """Some keys come more than once."""

    def __init__(self, keys: list[str]) -> None:
        many = f"{len(keys)} keys come" if len(keys) > 1 else "a key comes"
        super().__init__(
            f"{many} again, the first {keys[0]!r}; an index holds an image once: give each a key "
            "of its own"
        )
        self.keys = keys


class PartsWriter:
    """Takes descriptors and entries of a part at a time, and writes their files into a folder.

    Args:
        path: the folder.
        schema: columns of the entries; None: those of the first part.
        dim: numbers of a descriptor; 0: as many as the first part has.
    """

    def __init__(self, path: Path, *, schema: pa.Schema | None = None, dim: int = 0) -> None:
        self.schema, self.dim, self.count = schema, dim, 0
        self._descriptors = (path / DESCRIPTORS).open("wb")
        self._descriptors.write(b" " * _HEADER_BYTES)
        self._entries = (path / ENTRIES).open("wb")
        self._parquet: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._hashes: list[NDArray[np.int64]] = []

    def __enter__(self) -> PartsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._parquet is not None:
            self._parquet.close()
        self._entries.close()
        self._descriptors.close()

    def add(self, descriptors: Array, entries: pa.Table, *, model_id: str) -> None:
        """Take in a part, whose descriptors are brought to unit length exactly.

        Raises:
            ValueError: they are not of unit length or of another width, or there are as many
                entries, or they are of other columns or of another model than ``model_id``.
        """
        vectors = unit_descriptors(descriptors, "descriptors")
        check_entries(entries, len(vectors), model_id)
        self.add_as_is(vectors, entries)

    def add_as_is(self, vectors: Tensor, entries: pa.Table) -> None:
        """Take in rows that an index has already."""
        self.dim = self.dim or vectors.shape[1]
        if vectors.shape[1] != self.dim:
            raise ValueError(
                f"expected descriptors of {self.dim} numbers as those before, got "
                f"{vectors.shape[1]}; describe all images with one model"
            )
        self.schema = self.schema or entries.schema.remove_metadata()
        entries = conformed(entries, self.schema)
        if KEY in self.schema.names:
            self._hashes.append(_hashes(entries[KEY]))
        self._descriptors.write(np.ascontiguousarray(vectors.cpu().numpy()).data)
        self._waiting.append(entries)
        self.count += len(vectors)
        if sum(table.num_rows for table in self._waiting) >= _ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> None:
        """Complete both files.

        Raises:
            ValueError: nothing was taken in, or two images have one key.
        """
        if not self.count:
            raise ValueError("expected one descriptor or more, got none: an index needs an image")
        self._flush()
        assert self._parquet is not None
        self._parquet.close()
        self._entries.close()
        header = {"dtype": "F32", "shape": [self.count, self.dim]}
        header["data_offsets"] = [0, self.count * self.dim * 4]
        text = json.dumps({"descriptors": header}).encode()
        self._descriptors.seek(0)
        self._descriptors.write((_HEADER_BYTES - 8).to_bytes(8, "little"))
        self._descriptors.write(text)
        self._descriptors.close()
        self._refuse_repeated()

    def _flush(self) -> None:
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self._entries, self.schema)
        if self._waiting:
            self._parquet.write_table(pa.concat_tables(self._waiting).combine_chunks())
        self._waiting = []

    def _refuse_repeated(self) -> None:
        if not self._hashes:
            return
        hashes = np.concatenate(self._hashes)
        self._hashes = []
        ordered = np.sort(hashes)
        suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(suspects):
            return
        rows = np.flatnonzero(np.isin(hashes, suspects))
        # Different keys of one hash are rare, and told apart here.
        keys = pq.read_table(self._entries.name, columns=[KEY])[KEY].take(rows).to_pylist()
        seen: set[str] = set()
        again: list[str] = []
        for key in keys:
            (again.append if key in seen else seen.add)(key)
        if again:
            raise RepeatedError(again)


def checked_parts(parts: Iterable[Part]) -> Iterator[Part]:
    """Each part as a pair of descriptors and entries; one part need not be in a list.

    Raises:
        ValueError: there is something else.
    """
    if isinstance(parts, tuple) and len(parts) == 2 and isinstance(parts[1], pa.Table):
        parts = [parts]
    if not hasattr(parts, "__iter__"):
        raise ValueError(f"parts must be pairs of descriptors and entries, got {shown(parts)}")
    for part in parts:
        if not isinstance(part, tuple | list) or len(part) != 2:
            raise ValueError(f"a part is a pair of descriptors and entries, got {shown(part)}")
        descriptors, entries = part
        yield descriptors, of_kind("entries", entries, pa.Table, _TABLES)


def check_entries(entries: pa.Table, count: int, model_id: str) -> None:
    """Refuse entries of another number, or that say they were described with another model."""
    of_kind("entries", entries, pa.Table, _TABLES)
    of_kind("model_id", model_id, str, "it names the model, as TrainedModel.model_id does")
    if entries.num_rows != count:
        raise ValueError(
            f"expected one entry per descriptor, got {entries.num_rows} entries and "
            f"{count} descriptors"
        )
    there = (
        entries[MODEL_COLUMN].unique().to_pylist() if MODEL_COLUMN in entries.schema.names else []
    )
    if others := sorted(str(model) for model in there if model != model_id):
        raise ValueError(
            f"entries of model {', '.join(others[:3])} in an index of model {model_id}; describe "
            "all images with one model"
        )


def conformed(entries: pa.Table, schema: pa.Schema) -> pa.Table:
    """``entries`` with the columns of ``schema``: in its order, of its kinds, empty where missing.

    Raises:
        ValueError: a column is of another kind, or is not in the schema.
    """
    if extra := [name for name in entries.schema.names if name not in schema.names]:
        raise ValueError(
            f"entries have the column {', '.join(extra)}, those before have "
            f"{', '.join(schema.names)} only; give all the same columns"
        )
    columns = [_column(entries, field) for field in schema]
    return pa.table(columns, schema=schema)


def _column(entries: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in entries.schema.names:
        return pa.nulls(entries.num_rows, field.type)
    column = entries[field.name]
    if column.type == field.type:
        return column
    try:
        if pa.types.is_dictionary(field.type):
            plain = column.cast(field.type.value_type)
            return plain.dictionary_encode().cast(field.type)
        return column.cast(field.type)
    except (pa.ArrowException, NotImplementedError) as error:
        raise ValueError(
            f"the column {field.name} holds {column.type}, that of those before {field.type} "
            f"({error}); give all one kind"
        ) from error


def _hashes(keys: pa.ChunkedArray) -> NDArray[np.int64]:
    """(b,) a hash of each key: 8 bytes of ten million keys are in memory, not the keys."""
    if keys.null_count:
        raise ValueError("an entry has no key; give each image a key of its own")
    return np.fromiter(map(hash, keys.to_pylist()), dtype=np.int64, count=len(keys))
