"""An index as it is served: its version, and what is looked up in it again and again.

Shapes: n images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from apdist.retrieval.filters import parse_filter
from apdist.retrieval.querying.open_index import KEY, OpenIndex

LABELS = ("label_name", "label")
"""Columns with the class of an image, the first that is there."""
MOST_LABELS = 2000
"""That are told."""
WHERE_BYTES_LIE = ("shard", "offset", "size")
"""Columns of entries for the server alone: nobody is told of them, not by a condition either."""
_MOST_MASKS = 16
"""Filters whose rows are remembered: one byte for each image."""


class Snapshot:
    """An index that does not change any more, with its model.

    Args:
        opened: the index and the model.
        version: names this state of it.
    """

    def __init__(self, opened: OpenIndex, version: str) -> None:
        self.opened, self.version = opened, version
        self.entries: pa.Table = opened.index.entries
        self._masks: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        hashes = _hashes(self.entries)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return len(self.opened)

    def row(self, key: str) -> int | None:
        """The first row with this key. Keys are data: nothing is read by them."""
        place = int(np.searchsorted(self._hashes, hash(key)))
        while place < len(self._hashes) and self._hashes[place] == hash(key):
            row = int(self._order[place])
            if str(self.entries[KEY][row].as_py()) == key:
                return row
            place += 1
        return None

    def entry(self, row: int) -> dict[str, Any]:
        """What the index tells of an image."""
        return dict(self.entries.slice(row, 1).to_pylist()[0])

    def mask(self, where: Sequence[str]) -> Tensor | None:
        """(n,) bool: the images that may be found; None where all may.

        Raises:
            ValueError: a text is no condition, or names a column that is not there.
        """
        texts = tuple(where)
        if not texts:
            return None
        found = self._masks.get(texts)
        if found is None:
            found = parse_filter(texts).rows(self.entries.select(self.columns))
            self._masks[texts] = found
            if len(self._masks) > _MOST_MASKS:
                self._masks.popitem(last=False)
        return found

    @property
    def columns(self) -> list[str]:
        """Of the entries, those that others are told."""
        return [name for name in self.entries.schema.names if name not in WHERE_BYTES_LIE]

    @property
    def label_column(self) -> str:
        """Empty where images have no class."""
        return next((name for name in LABELS if name in self.entries.schema.names), "")

    @cached_property
    def labels(self) -> tuple[list[str], int]:
        """Names of the first classes in order, and how many there are."""
        if not self.label_column:
            return [], 0
        column = self.entries[self.label_column]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        found = map(str, pc.unique(column).drop_null().to_pylist())
        names = sorted(name for name in found if name)
        return names[:MOST_LABELS], len(names)


def _hashes(entries: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(n,) a hash of each key: 8 bytes of an image are in memory, not its key."""
    if KEY not in entries.schema.names:
        return np.empty(0, dtype=np.int64)
    parts = (
        np.fromiter((hash(str(key)) for key in chunk.to_pylist()), np.int64, len(chunk))
        for chunk in entries[KEY].chunks
    )
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])
