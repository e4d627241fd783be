"""An index with the model that described its images: pictures in, what looks like them out.

Shapes: q queries, d descriptor size.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from itertools import accumulate
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from apdist.arrays import count_of, number_of
from apdist.config import suggestion
from apdist.data.given_images import Given
from apdist.given import key_texts
from apdist.model.describing import BATCH_SIZE, described_parts
from apdist.model.pretrained import TrainedModel
from apdist.retrieval.filters import Filter, parse_filter
from apdist.retrieval.querying.queries import pictures_at
from apdist.retrieval.querying.results import SearchResults, joined, results_of
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.several import SeveralIndexes

Where: TypeAlias = str | Sequence[str] | Filter
"""Conditions on the entries as people type them, all of which have to hold; or a filter."""
KEY = "key"
"""Column of the entries by which an image is named."""
_MOST_SUGGESTED = 20_000
"""Keys among which one like a wrong one is looked for: that takes a second."""


class OpenIndex:
    """Images that can be searched with pictures: what `open_index` gives.

    Args:
        index: the images, in one index or several.
        model: what describes pictures as they were described.
    """

    def __init__(self, index: SearchIndex | SeveralIndexes, model: TrainedModel) -> None:
        self.index, self.model = index, model

    def __len__(self) -> int:
        """Images that are searched."""
        return len(self.index)

    def count(self, where: Where = ()) -> int:
        """Images that ``where`` lets through.

        Raises:
            ValueError: it is no condition, or names a column that is not there.
        """
        mask = self._mask(where)
        return len(self) if mask is None else int(mask.sum())

    def describe(self, images: Given | Iterable[Given]) -> Tensor:
        """Descriptors (q, d) of pictures, as the index has them of its images."""
        return self.model.describe(images)

    def search(
        self,
        images: Given | Iterable[Given],
        k: int = 10,
        *,
        where: Where = (),
        least_score: float = -1.0,
        skip_unreadable: bool = False,
    ) -> SearchResults:
        """The images that look most like each of ``images``, best first.

        Args:
            images: one or many: a path or an address (also of a folder or a list of pictures),
                encoded bytes, a PIL image, or an array (h, w, 3) of uint8.
            k: most results of each.
            where: which images may be found, as ``label_name=cat`` or several such conditions.
            least_score: images of a lower cosine are no results; near 1 leaves near-duplicates.
            skip_unreadable: whether pictures that cannot be read are passed over, and named in
                `SearchResults.unread`.

        Raises:
            ValueError: an argument is out of range, there is nothing to search for, a picture is
                none or cannot be read, or a condition is of a column that is not there.
        """
        parts = self.search_parts(
            images,
            k,
            where=where,
            least_score=least_score,
            skip_unreadable=skip_unreadable,
        )
        with closing(parts) as found:
            results = list(found)
        if not results:
            raise ValueError("expected one picture or more to search for, got none")
        return joined(results)

    def search_parts(
        self,
        images: Given | Iterable[Given],
        k: int = 10,
        *,
        where: Where = (),
        least_score: float = -1.0,
        skip_unreadable: bool = False,
    ) -> Generator[SearchResults, None, None]:
        """As `search`, batch by batch: neither all pictures nor all results are in memory."""
        k, least = count_of("k", k, 1), number_of("least_score", least_score, -1, 1)
        mask = self._mask(where)
        if isinstance(images, str | os.PathLike):
            images = pictures_at([images])
        network, fit = self.model.network, self.model.fit
        parts = described_parts(network, fit, images, skip_unreadable=skip_unreadable)
        with closing(parts) as described:
            for part in described:
                found = self._nearest(part.descriptors, k, mask)
                queries = part.numbers, part.names
                yield results_of(
                    k, queries, found, self.index.entries, least_score=least, unread=part.unread
                )

    def search_keys(
        self,
        keys: Sequence[str],
        k: int = 10,
        *,
        where: Where = (),
        least_score: float = -1.0,
    ) -> SearchResults:
        """The images that look most like images of the index, none of which finds itself.

        Args:
            keys: of the images.
            k: most results of each.
            where: as in `search`.
            least_score: as in `search`.

        Raises:
            ValueError: an argument is out of range, or there is no image of such a key.
        """
        k, least = count_of("k", k, 1), number_of("least_score", least_score, -1, 1)
        mask, names = self._mask(where), key_texts("keys", keys)
        rows = self._rows(names)
        parts = []
        for start in range(0, len(names), BATCH_SIZE):
            own = rows[start : start + BATCH_SIZE]
            queries = range(start, start + len(own)), names[start : start + BATCH_SIZE]
            found = self._nearest(self._stored(own), k + 1, mask)
            parts.append(
                results_of(k, queries, found, self.index.entries, own=own, least_score=least)
            )
        return joined(parts)

    def entries_of(self, keys: Sequence[str]) -> pa.Table:
        """(q) rows: what the index tells of the images of these ``keys``.

        Raises:
            ValueError: there is no image of such a key.
        """
        return self.index.entries.take(pa.array(self._rows(key_texts("keys", keys)).numpy()))

    def _mask(self, where: Where) -> Tensor | None:
        """(n,) bool: the images that may be found; None where all may."""
        if not isinstance(where, Filter):
            where = parse_filter([where] if isinstance(where, str) else where)
        return where.rows(self.index.entries) if where else None

    def _nearest(self, descriptors: Tensor, k: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if not len(descriptors):  # none of them could be read
            return torch.empty(0, k), torch.empty(0, k, dtype=torch.long)
        return self.index.search(descriptors, k, where=mask)

    def _stored(self, rows: Tensor) -> Tensor:
        """Descriptors (q, d) of the index itself."""
        if isinstance(self.index, SearchIndex):
            return self.index.descriptors[rows]
        indexes = list(self.index.indexes.values())
        starts = torch.tensor([*accumulate(map(len, indexes[:-1]), initial=0)])
        which = torch.bucketize(rows, starts, right=True) - 1
        found = [indexes[i].descriptors[rows[n] - starts[i]] for n, i in enumerate(which.tolist())]
        return torch.stack(found)

    def _rows(self, keys: Sequence[str]) -> Tensor:
        """(q,) rows of the images of these ``keys``, each the first that has it."""
        entries = self.index.entries
        if not keys or KEY not in entries.schema.names:
            reason = "got none" if not keys else "the index notes none of its images"
            raise ValueError(f"expected keys of images, {reason}; search with pictures instead")
        column = entries[KEY].cast(pa.string())
        rows = pc.index_in(pa.array(keys, pa.string()), value_set=column)
        if rows.null_count:
            missing = keys[rows.to_pylist().index(None)]
            known = column.to_pylist() if len(column) <= _MOST_SUGGESTED else []
            raise ValueError(
                f"the index has no image of the key {missing!r}{suggestion(missing, known)}; its "
                f"keys look like {column[0].as_py()!r}"
            )
        return torch.from_numpy(rows.to_numpy().copy()).long()
