"""The part of an index that faiss does: search, read and write.

Shapes: q queries, n database images, d descriptor size, k results.
"""

from __future__ import annotations

import functools
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.retrieval.approximate.huge_pages import into_huge_pages
from apdist.retrieval.approximate.importing import first_line, import_faiss, num_gpus
from apdist.retrieval.ranking import nearest_rows, ranking_keys
from apdist.retrieval.ranks import exact_scores

logger = logging.getLogger(__name__)

# Quantised scores order candidates roughly: take more of them and score those exactly.
_PQ_CANDIDATES_PER_RESULT = 8
_MOST_RESULTS_ON_GPU = 2048
_IMAGES_PER_RESULT = 4
_TIMES_FURTHER = 8


class FaissIndex:
    """A faiss index and, where faiss has a GPU and can use it for this kind, its copy there."""

    def __init__(self, cpu_index: Any, *, on_gpu: bool = True) -> None:
        self.cpu_index = cpu_index
        self.gpu_index = _copy_to_gpu(cpu_index) if on_gpu else None
        if hasattr(cpu_index, "hnsw"):
            _read_faster(cpu_index)

    def search(
        self, queries: Tensor, database: Tensor, k: int, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Exact scores (q, k) and rows (q, k), -1 where fewer than k images were found.

        Args:
            queries: (q, d) float32.
            database: (n, d) float32, what the index was built from.
            k: results per query, at most n.
            allowed: (n,) bool, the images that may be found; None: all.
        """
        faiss = import_faiss()
        quantised = isinstance(self.cpu_index, faiss.IndexIVFPQ)
        num_candidates = min(len(database), k * _PQ_CANDIDATES_PER_RESULT) if quantised else k
        if isinstance(self.cpu_index, faiss.IndexIVF) and (
            allowed is not None or self.gpu_index is None or num_candidates > _MOST_RESULTS_ON_GPU
        ):
            found = self._search_lists(faiss, queries, num_candidates, allowed)
        elif allowed is not None:  # faiss chooses images on the CPU only
            chosen = _choosing(faiss, self.cpu_index, allowed)
            rows = self.cpu_index.search(array_of(queries), num_candidates, params=chosen)[1]
            found = torch.from_numpy(rows)
        else:
            index = self.cpu_index
            if self.gpu_index is not None and num_candidates <= _MOST_RESULTS_ON_GPU:
                index = self.gpu_index
            found = torch.from_numpy(index.search(array_of(queries), num_candidates)[1])
        return _rescore(queries.cpu(), database.cpu(), found, k)

    def _search_lists(self, faiss: Any, queries: Tensor, k: int, allowed: Tensor | None) -> Tensor:
        """Rows (q, k) that an inverted index finds, -1 where there are no more images.

        The lists to look at are chosen here: faiss' products take five times as long on a CPU. It
        looks into as many as the recall of ten takes, or into those where several times k lie, and
        further for a query that has found too little there.
        """
        index, more = self.cpu_index, 1.0 if allowed is None else _times_rarer(allowed)
        chosen = None if allowed is None else _selector(faiss, allowed)
        for_many = _IMAGES_PER_RESULT * k * index.nlist / max(1, index.ntotal)
        probes = min(index.nlist, math.ceil(more * max(index.nprobe, for_many)))
        queries = torch.from_numpy(array_of(queries))
        found = torch.full((len(queries), k), -1)
        short = torch.arange(len(queries))
        while True:
            scores, lists = nearest_rows(queries[short], self._centres, probes)
            found[short] = _in_lists(faiss, index, queries[short], k, (scores, lists), chosen)
            short = (found < 0).any(dim=1).nonzero()[:, 0]  # lists are of many sizes
            if not len(short) or probes == index.nlist:
                return found
            probes = min(index.nlist, _TIMES_FURTHER * probes)

    @functools.cached_property
    def _centres(self) -> Tensor:
        return centres_of(self.cpu_index)


def _read_faster(index: Any) -> None:
    """Huge pages for what a search in a graph jumps about in: it takes a quarter less time."""
    faiss, graph = import_faiss(), index.hnsw
    vectors = faiss.downcast_index(index.storage).codes
    for held, itemsize in ((vectors, 1), (graph.neighbors, 4), (graph.offsets, 8)):
        into_huge_pages(int(held.data()), held.size() * itemsize)


def _in_lists(
    faiss: Any, index: Any, queries: Tensor, k: int, probed: tuple[Tensor, Tensor], chosen: Any
) -> Tensor:
    """Rows (q, k), -1 for none, in the lists ``probed``: scores and numbers (q, p) of theirs."""
    vectors, (scores, lists) = queries.numpy(), (part.numpy() for part in probed)
    found = np.empty((len(vectors), k), dtype=np.float32), np.empty((len(vectors), k), np.int64)
    index.search_preassigned_c(
        len(vectors),
        faiss.swig_ptr(vectors),
        k,
        *(faiss.swig_ptr(array) for array in (lists, scores, *found)),
        False,
        faiss.SearchParametersIVF(sel=chosen, nprobe=lists.shape[1]),
    )
    return torch.from_numpy(found[1])


def _choosing(faiss: Any, index: Any, allowed: Tensor) -> Any:
    """How to search ``index`` among the images that are ``allowed`` (n,)."""
    chosen = _selector(faiss, allowed)
    if isinstance(index, faiss.IndexHNSW):
        width = math.ceil(index.hnsw.efSearch * _times_rarer(allowed))
        return faiss.SearchParametersHNSW(sel=chosen, efSearch=width)
    return faiss.SearchParameters(sel=chosen)


def _selector(faiss: Any, allowed: Tensor) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(allowed.numpy(), bitorder="little"))


def _times_rarer(allowed: Tensor) -> float:
    """How much more is to be looked at, so that as many of those ``allowed`` (n,) are found."""
    return len(allowed) / max(1, int(allowed.sum()))


def write_faiss(index: FaissIndex, path: Path) -> None:
    """Write ``index`` to ``path``; ``ValueError`` where faiss cannot."""
    try:
        import_faiss().write_index(index.cpu_index, str(path))
    except RuntimeError as error:
        raise ValueError(
            f"faiss cannot write {path} ({first_line(error)}); make room there, or choose another "
            "folder"
        ) from error


def read_faiss(path: Path) -> FaissIndex:
    """Read the index that `write_faiss` wrote; ``ValueError`` where faiss cannot."""
    try:
        return FaissIndex(import_faiss().read_index(str(path)))
    except RuntimeError as error:
        raise ValueError(
            f"faiss cannot read {path} ({first_line(error)}); build the index again"
        ) from error


def _copy_to_gpu(index: Any) -> Any:
    """A copy of ``index`` on the first GPU; None without one or for a kind it cannot hold."""
    faiss = import_faiss()
    if not num_gpus(faiss):
        return None
    resources = faiss.StandardGpuResources()
    try:
        moved = faiss.index_cpu_to_gpu(resources, 0, index, _on_gpu(faiss, index))
    except RuntimeError as error:
        logger.warning("faiss searches on the CPU: %s", error)
        return None
    # The copy uses the resources' memory but does not keep them alive.
    moved.keep_alive = resources
    return moved


def _on_gpu(faiss: Any, index: Any) -> Any:
    """How the copy on a GPU holds numbers: as here, but for the tables of a quantised index.

    Float32 tables for 64 sub-quantizers are larger than the shared memory of a block, and faiss
    refuses them. What a quantised index finds is scored anew, exactly.
    """
    options = faiss.GpuClonerOptions()
    options.useFloat16 = isinstance(index, faiss.IndexIVFPQ)
    return options


def _rescore(queries: Tensor, database: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best ``k`` of the candidates ``rows`` (q, c) by their exact scores; row -1 for none."""
    scores = exact_scores(queries, database, rows.clamp(min=0)).masked_fill(rows < 0, -torch.inf)
    best = ranking_keys(scores, rows).masked_fill(rows < 0, torch.iinfo(torch.int64).max)
    order = best.argsort(dim=1)[:, :k]
    return scores.gather(1, order), rows.gather(1, order)


def centres_of(index: Any) -> Tensor:
    """Centres (l, d) of the lists of ``index``."""
    return torch.from_numpy(index.quantizer.reconstruct_n(0, index.nlist))


def array_of(descriptors: Tensor) -> NDArray[Any]:
    """Float32, side by side, in main memory."""
    return np.ascontiguousarray(descriptors.float().cpu().numpy())
