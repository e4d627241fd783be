"""Several indexes of one model, searched as one.

Shapes: q queries, n images of all indexes, d descriptor size, k results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from apdist.arrays import Array, count_of
from apdist.given import of_kind, shown
from apdist.retrieval.filters import Filter
from apdist.retrieval.search_index import SearchIndex, best_of, mask_of

INDEX_COLUMN = "index"
"""Column of the entries with the name of the index that an image is in."""


class SeveralIndexes:
    """Indexes by name, searched as if the images of one followed those of the other.

    Args:
        indexes: one or more, all of one model.

    Raises:
        ValueError: there is none, or they are of several models.
    """

    def __init__(self, indexes: Mapping[str, SearchIndex]) -> None:
        how = "give them by name, or call open_index with their folders"
        if not isinstance(indexes, Mapping):
            raise ValueError(f"indexes must be a dict, got {shown(indexes)}; {how}")
        for index in indexes.values():
            of_kind("an index", index, SearchIndex, how)
        if not indexes:
            raise ValueError("expected one index or more to search together, got none")
        self.indexes = dict(indexes)
        first, *others = self.indexes
        for other in others:
            self.indexes[other].refuse_unlike(other, self.indexes[first], first)

    def __len__(self) -> int:
        return sum(map(len, self.indexes.values()))

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the first: what holds of all of them is the model and how it describes."""
        return next(iter(self.indexes.values())).settings

    @cached_property
    def entries(self) -> pa.Table:
        """(n) rows: the entries of all, with the name of the index in the column `index`.

        A column that an index does not have is empty for its images.
        """
        tables = []
        for name, index in self.indexes.items():
            table = index.entries
            if INDEX_COLUMN in table.schema.names:
                table = table.drop_columns([INDEX_COLUMN])
            names = pa.DictionaryArray.from_arrays(
                pa.array([0] * len(index), pa.int32()), pa.array([name], pa.string())
            )
            tables.append(table.append_column(INDEX_COLUMN, names))
        schemas = {table.schema for table in tables}
        if len(schemas) > 1:
            tables = [_decoded(table) for table in tables]
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(
                f"the indexes {', '.join(self.indexes)} have columns of one name and different "
                f"kinds ({error}); search them one by one"
            ) from error

    def refuse_model(self, model_id: str, name: object) -> None:
        """As `SearchIndex.refuse_model`, of each."""
        del name
        for its_name, index in self.indexes.items():
            index.refuse_model(model_id, its_name)

    def search(
        self, queries: Array, k: int, where: Filter | Sequence[str] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cosine scores (q, k), falling, and rows (q, k) of `entries`, as `SearchIndex.search`.

        So are the arguments; ``where`` is about `entries`. Equal scores: the image of the earlier
        index first.

        Raises:
            ValueError: the queries are no unit descriptors of this dimension, k < 1, or the filter
                names a column that no index has.
        """
        k = count_of("k", k, 1)
        sizes = [len(index) for index in self.indexes.values()]
        masks: list[Tensor | None] = [None] * len(sizes)
        if where is not None:
            masks = [*mask_of(where, self.entries).split(sizes)]
        starts = accumulate(sizes, initial=0)
        found = [
            (scores, rows + start)
            for index, mask, start in zip(self.indexes.values(), masks, starts, strict=False)
            for scores, rows in [index.search(queries, k, where=mask)]
        ]
        scores, rows = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return best_of(scores, rows, k)


def _decoded(table: pa.Table) -> pa.Table:
    """``table`` with plain columns in place of those of few names."""
    fields = [
        pa.field(f.name, f.type.value_type) if pa.types.is_dictionary(f.type) else f
        for f in table.schema
    ]
    return table.cast(pa.schema(fields))
