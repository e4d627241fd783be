"""Search descriptors that are in memory: exactly, or approximately with faiss.

Shapes: q queries, n images, d descriptor size, k results.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.arrays import Array, count_of, descriptors_of
from apdist.retrieval.faiss_index import FaissIndex
from apdist.retrieval.ranking import nearest_rows

_RECALL_SAMPLE = 200
# Scores of one pair differ by rounding between two ways to multiply.
_SCORE_TOLERANCE = 1e-5


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
        """Return where queries of model ``model_id`` can be searched for in the index ``name``.

        Raises:
            ValueError: its images were described with another model, or in another way.
        """
        if self.settings["model_id"] != model_id:
            raise ValueError(
                f"{name} was built with model {self.settings['model_id']}, the queries come from "
                f"model {model_id}; search with the first or build an index with the second"
            )

    def search(self, queries: Array, k: int) -> tuple[Tensor, Tensor]:
        """Cosine scores (q, k), falling, and rows (q, k) of the images nearest to each query.

        Args:
            queries: (q, d) of unit length.
            k: results per query; an index of fewer images returns all of them.

        Raises:
            ValueError: the queries are no unit descriptors of the index's dimension, or k < 1.
        """
        k = count_of("k", k, 1)
        vectors = unit_descriptors(queries, "queries").to(self.descriptors.device)
        if vectors.shape[1] != self.descriptors.shape[1]:
            raise ValueError(
                f"the index holds {self.descriptors.shape[1]} dimensions, the queries have "
                f"{vectors.shape[1]}; describe them with model {self.settings['model_id']}"
            )
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
    generator = torch.Generator().manual_seed(0)
    sample = torch.randperm(count, generator=generator)[:_RECALL_SAMPLE]
    queries = index.descriptors[sample]
    exact, _ = nearest_rows(queries, index.descriptors, depth + 1)
    _, rows = index.search(queries, depth + 1)
    scores = (index.descriptors[rows] @ queries[:, :, None])[:, :, 0]  # (q, depth + 1)
    found = (scores >= exact[:, -1:] - _SCORE_TOLERANCE).sum(dim=1)
    # Each image finds itself, exactly as in the exact search: not counted.
    return float((found - 1).clamp(min=0).double().mean() / depth)
