"""Search descriptors that are in memory: exactly, or approximately with faiss.

Shapes: q queries, n images, d descriptor size, k results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.arrays import Array, count_of, descriptors_of, shape_of
from apdist.retrieval.approximate.faiss_index import FaissIndex
from apdist.retrieval.filters import Filter, parse_filter
from apdist.retrieval.ranking import nearest_rows

_RECALL_SAMPLE = 200
# Scores of one pair differ by rounding between two ways to multiply.
_SCORE_TOLERANCE = 1e-5
_LEAST_SHARE, _LEAST_ROWS = 0.1, 20_000
"""Of images that a filter lets through, for faiss to search among them: of fewer its graph and its
lists find too few, and to compare them all takes no longer."""
_ROWS_AT_ONCE = 1 << 18
"""Rows that a filter lets through are copied before they are searched."""


class SearchIndex:
    """Unit descriptors (n, d), what is known of each image, and a way to search them.

    Args:
        descriptors: (n, d) float32 of unit length.
        entries: one row per image, in the order of the descriptors.
        settings: kind, dim, count, model_id and whatever else `build_index` chose or measured.
        faiss_index: searched in place of the descriptors; absent for exact search.
    """

    def __init__(
        self,
        descriptors: Tensor,
        entries: pa.Table,
        settings: dict[str, Any],
        faiss_index: FaissIndex | None = None,
    ) -> None:
        self.descriptors = descriptors
        self.entries = entries
        self.settings = settings
        self.faiss_index = faiss_index

    def __len__(self) -> int:
        return len(self.descriptors)

    def refuse_model(self, model_id: str, name: object) -> None:
        """Raise unless queries of model ``model_id`` can be searched for in the index ``name``.

        Raises:
            ValueError: its images were described with another model, or in another way.
        """
        if self.settings["model_id"] != model_id:
            raise ValueError(
                f"{name} was built with model {self.settings['model_id']}, the queries come from "
                f"model {model_id}; search with the first or build an index with the second"
            )

    def refuse_unlike(self, name: object, other: SearchIndex, other_name: object) -> None:
        """Raise unless this index, ``name``, can be searched together with another one.

        Raises:
            ValueError: they are of different models, or of different widths.
        """
        mine, its = (
            (index.settings["model_id"], index.descriptors.shape[1]) for index in (self, other)
        )
        if mine != its:
            raise ValueError(
                f"{name} is of model {mine[0]} ({mine[1]} dimensions) and {other_name} of model "
                f"{its[0]} ({its[1]}); search them one by one, or build both with one model"
            )

    def search(
        self, queries: Array, k: int, where: Filter | Sequence[str] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cosine scores (q, k), falling, and rows (q, k) of the images nearest to each query.

        Args:
            queries: (q, d) of unit length.
            k: results per query; where there are fewer images, all of them.
            where: the images that may be found: a filter of their entries, or its conditions as
                text, or (n,) bool. None: all.

        Raises:
            ValueError: the queries are no unit descriptors of the index's dimension, k < 1, or the
                filter names a column that is not there.
        """
        k = count_of("k", k, 1)
        vectors = unit_descriptors(queries, "queries").to(self.descriptors.device)
        if vectors.shape[1] != self.descriptors.shape[1]:
            raise ValueError(
                f"the index holds {self.descriptors.shape[1]} dimensions, the queries have "
                f"{vectors.shape[1]}; describe them with model {self.settings['model_id']}"
            )
        if where is not None:
            allowed = mask_of(where, self.entries)
            if not bool(allowed.all()):
                return self._search_among(vectors, k, allowed)
        k = min(k, len(self))
        if self.faiss_index is None:
            scores, rows = nearest_rows(vectors, self.descriptors, k)
            return scores.cpu(), rows.cpu()
        scores, rows = self.faiss_index.search(vectors, self.descriptors, k)
        # Too few images in the lists that faiss probed.
        short = (rows < 0).any(dim=1)
        if short.any():
            exact_scores, exact_rows = nearest_rows(vectors[short], self.descriptors, k)
            scores[short], rows[short] = exact_scores.cpu(), exact_rows.cpu()
        return scores, rows

    def _search_among(self, vectors: Tensor, k: int, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest of the images that are ``allowed`` (n,), k or as many as there are."""
        rows_allowed = allowed.nonzero()[:, 0]
        k, count = min(k, len(rows_allowed)), len(rows_allowed)
        if self.faiss_index is None or count < max(_LEAST_ROWS, _LEAST_SHARE * len(self)):
            return nearest_among(vectors, self.descriptors, rows_allowed, k)
        scores, rows = self.faiss_index.search(vectors, self.descriptors, k, allowed)
        short = (rows < 0).any(dim=1)
        if short.any():
            scores[short], rows[short] = nearest_among(
                vectors[short], self.descriptors, rows_allowed, k
            )
        return scores, rows


def mask_of(where: Filter | Sequence[str] | Tensor, entries: pa.Table) -> Tensor:
    """(n,) bool: the images that ``where`` lets through.

    Raises:
        ValueError: a text is no condition, a column is not there, or the mask is no (n,) bool.
    """
    if not isinstance(where, Filter | Tensor):
        where = parse_filter(where)
    if isinstance(where, Filter):
        return where.rows(entries)
    if where.dtype != torch.bool or where.shape != (entries.num_rows,):
        raise ValueError(
            f"where: expected a filter or ({entries.num_rows},) bool, got {shape_of(where)} "
            f"{where.dtype}"
        )
    return where.cpu()


def nearest_among(queries: Tensor, database: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `nearest_rows`, of the ``rows`` (m,), ascending, of the database (n, d) alone."""
    scores = torch.empty((len(queries), 0))
    found = torch.empty((len(queries), 0), dtype=torch.int64)
    for some in rows.split(_ROWS_AT_ONCE):
        its_scores, places = nearest_rows(
            queries, database[some.to(database.device)], min(k, len(some))
        )
        scores, found = best_of(
            torch.cat((scores, its_scores.cpu()), dim=1),
            torch.cat((found, some[places.cpu()]), dim=1),
            k,
        )
    return scores, found


def best_of(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best of candidates (q, c), falling; of equal scores the earlier candidate first."""
    ordered, places = scores.sort(dim=1, descending=True, stable=True)
    return ordered[:, :k], rows.gather(1, places)[:, :k]


def unit_descriptors(descriptors: Array, name: str) -> Tensor:
    """``descriptors`` (n, d) as float32 of exactly unit length.

    Raises:
        ValueError: another shape, a number that is not finite, or a length that is not near 1.
    """
    return F.normalize(descriptors_of(name, descriptors, unit=True).float(), dim=1)


def measure_recall(index: SearchIndex, *, depth: int = 10) -> float | None:
    """Share of the ``depth`` nearest other images that the index finds, for a sample of its images.

    Images as near as the last of the exact neighbours count as found. None for a single image.
    """
    count = len(index)
    depth = min(depth, count - 1)
    if not depth:
        return None
    generator = torch.Generator().manual_seed(2)
    sample = torch.randperm(count, generator=generator)[:_RECALL_SAMPLE]
    queries = index.descriptors[sample]
    exact, _ = nearest_rows(queries, index.descriptors, depth + 1)
    _, rows = index.search(queries, depth + 1)
    scores = (index.descriptors[rows] @ queries[:, :, None])[:, :, 0]  # (q, depth + 1)
    found = (scores >= exact[:, -1:] - _SCORE_TOLERANCE).sum(dim=1)
    # Each image finds itself, exactly as in the exact search: not counted.
    return float((found - 1).clamp(min=0).double().mean() / depth)
