"""The part of an index that faiss does: build, search, read and write; faiss is imported on demand.

Shapes: q queries, n database images, d descriptor size, k results.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# faiss prints a warning to stderr below this many training points per centroid.
_POINTS_PER_CENTROID = 39
_HNSW_LINKS = 32
_HNSW_SEARCH_WIDTH = 128
_MOST_SUBQUANTIZERS = 64
_LEAST_CODE_BITS = 4
# Quantised scores order candidates roughly: take more of them and score those exactly.
_PQ_CANDIDATES_PER_RESULT = 8
_MOST_RESULTS_ON_GPU = 2048
_ROWS_AT_ONCE = 1 << 18


def import_faiss() -> Any:
    """The module ``faiss``.

    Raises:
        ValueError: it is not installed, or installed without the libraries that it needs.
    """
    try:
        with warnings.catch_warnings():
            # Its SWIG types lack a __module__, which Python 3.12 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except Exception as error:  # built for another numpy it raises AttributeError, for example
        raise ValueError(
            f"faiss does not import ({error}); install one of the extras "
            "apdist[faiss-cpu] or apdist[faiss-gpu], never both, or use kind='exact'"
        ) from error
    return faiss


def has_faiss() -> bool:
    """Whether ``faiss`` imports."""
    try:
        import_faiss()
    except ValueError as error:
        logger.info("searching without faiss: %s", error)
        return False
    return True


class FaissIndex:
    """A faiss index and, where faiss has a GPU and can use it for this kind, its copy there."""

    def __init__(self, cpu_index: Any) -> None:
        self.cpu_index = cpu_index
        self.gpu_index = _copy_to_gpu(cpu_index)

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
        use_gpu = self.gpu_index is not None and num_candidates <= _MOST_RESULTS_ON_GPU
        index, vectors = self.cpu_index, np.ascontiguousarray(queries.cpu().numpy())
        if allowed is not None:  # faiss chooses images on the CPU only
            found = index.search(vectors, num_candidates, params=_choosing(faiss, index, allowed))
        else:
            found = (self.gpu_index if use_gpu else index).search(vectors, num_candidates)
        scores, rows = (torch.from_numpy(array) for array in found)
        return _rescore(queries.cpu(), database.cpu(), rows, k) if quantised else (scores, rows)


def _choosing(faiss: Any, index: Any, allowed: Tensor) -> Any:
    """How to search ``index`` among the images that are ``allowed`` (n,).

    The rarer they are, the more is looked at, so that as many of them are found as of all images.
    """
    more = len(allowed) / max(1, int(allowed.sum()))
    bits = np.packbits(allowed.numpy(), bitorder="little")
    chosen = faiss.IDSelectorBitmap(bits)
    if isinstance(index, faiss.IndexIVF):
        probes = min(index.nlist, math.ceil(index.nprobe * more))
        return faiss.SearchParametersIVF(sel=chosen, nprobe=probes)
    if isinstance(index, faiss.IndexHNSW):
        width = math.ceil(index.hnsw.efSearch * more)
        return faiss.SearchParametersHNSW(sel=chosen, efSearch=width)
    return faiss.SearchParameters(sel=chosen)


def build_faiss(kind: str, descriptors: Tensor) -> tuple[FaissIndex, dict[str, Any]]:
    """A faiss index of ``descriptors`` (n, d), float32 of unit length, and the settings chosen.

    Args:
        kind: "flat", "ivf", "hnsw" or "ivf_pq".
        descriptors: (n, d).

    Raises:
        ValueError: faiss does not import, or there are too few images for "ivf_pq".
    """
    refuse_kind(kind, len(descriptors))
    faiss = import_faiss()
    vectors = np.ascontiguousarray(descriptors.cpu().numpy())
    index, settings = _EMPTY_INDEX[kind](faiss, *vectors.shape)
    try:
        index.train(vectors)
        index.add(vectors)
    except Exception as error:  # of C++, as RuntimeError, MemoryError or AssertionError
        raise ValueError(
            f"faiss cannot build kind {kind!r} of {len(vectors)} descriptors "
            f"({_first_line(error)}); use kind 'exact'"
        ) from error
    return FaissIndex(index), {"faiss_version": faiss.__version__, **settings}


def add_to_faiss(index: FaissIndex, descriptors: Tensor, *, after: int) -> None:
    """Add the rows of ``descriptors`` (n, d) from ``after`` on to an index of those before them.

    With ``after`` 0 they take the place of all that it held; what it has learned stays.
    """
    if not after:
        index.cpu_index.reset()
    for start in range(after, len(descriptors), _ROWS_AT_ONCE):
        some = descriptors[start : start + _ROWS_AT_ONCE]
        index.cpu_index.add(np.ascontiguousarray(some.cpu().numpy()))


def write_faiss(index: FaissIndex, path: Path) -> None:
    """Write ``index`` to ``path``; ``ValueError`` where faiss cannot."""
    try:
        import_faiss().write_index(index.cpu_index, str(path))
    except RuntimeError as error:
        raise ValueError(
            f"faiss cannot write {path} ({_first_line(error)}); make room there, or choose another "
            "folder"
        ) from error


def read_faiss(path: Path) -> FaissIndex:
    """Read the index that `write_faiss` wrote; ``ValueError`` where faiss cannot."""
    try:
        return FaissIndex(import_faiss().read_index(str(path)))
    except RuntimeError as error:
        raise ValueError(
            f"faiss cannot read {path} ({_first_line(error)}); build the index again"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _copy_to_gpu(index: Any) -> Any:
    """A copy of ``index`` on the first GPU; None without one or for a kind it cannot hold."""
    faiss = import_faiss()
    # faiss-cpu has get_num_gpus, too; only faiss-gpu has the resources.
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
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


def _flat(faiss: Any, _num_images: int, dim: int) -> tuple[Any, dict[str, int]]:
    return faiss.IndexFlatIP(dim), {}


def _ivf(faiss: Any, num_images: int, dim: int) -> tuple[Any, dict[str, int]]:
    settings = _choose_lists(num_images)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dim), dim, settings["num_lists"], faiss.METRIC_INNER_PRODUCT
    )
    index.nprobe = settings["num_probes"]
    return index, settings


def _hnsw(faiss: Any, _num_images: int, dim: int) -> tuple[Any, dict[str, int]]:
    index = faiss.IndexHNSWFlat(dim, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = _HNSW_SEARCH_WIDTH
    return index, {"num_links": _HNSW_LINKS, "search_width": _HNSW_SEARCH_WIDTH}


def refuse_kind(kind: str, num_images: int) -> None:
    """Say before descriptors are computed that no index of this kind can be built of them.

    Raises:
        ValueError: faiss does not import, or there are too few images for "ivf_pq".
    """
    if kind not in ("auto", "exact"):
        import_faiss()
    least = _POINTS_PER_CENTROID << _LEAST_CODE_BITS
    if kind == "ivf_pq" and num_images < least:
        raise ValueError(
            f"kind='ivf_pq' learns its code from at least {least} images, got {num_images}; "
            "use kind='flat'"
        )


def _ivf_pq(faiss: Any, num_images: int, dim: int) -> tuple[Any, dict[str, int]]:
    settings = _choose_lists(num_images)
    most = max(1, min(_MOST_SUBQUANTIZERS, dim // 2))
    settings["num_subquantizers"] = max(m for m in range(1, most + 1) if dim % m == 0)
    settings["code_bits"] = min(8, int(math.log2(num_images / _POINTS_PER_CENTROID)))
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dim),
        dim,
        settings["num_lists"],
        settings["num_subquantizers"],
        settings["code_bits"],
        faiss.METRIC_INNER_PRODUCT,
    )
    index.nprobe = settings["num_probes"]
    return index, settings


_EMPTY_INDEX = {"flat": _flat, "ivf": _ivf, "hnsw": _hnsw, "ivf_pq": _ivf_pq}


def _choose_lists(num_images: int) -> dict[str, int]:
    """About 4 sqrt(n) lists, each with enough images to learn its centre; an eighth is searched."""
    most = max(1, num_images // _POINTS_PER_CENTROID)
    num_lists = min(most, max(1, round(4 * math.sqrt(num_images))))
    return {"num_lists": num_lists, "num_probes": min(num_lists, max(8, num_lists // 8))}


def _rescore(queries: Tensor, database: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best ``k`` of the candidates ``rows`` (q, c) by exact inner product."""
    scores = torch.stack(
        [
            (database[candidates.clamp(min=0)] @ query).masked_fill(candidates < 0, -torch.inf)
            for query, candidates in zip(queries, rows, strict=True)
        ]
    )  # (q, c)
    best = scores.topk(k, dim=1)
    return best.values, rows.gather(1, best.indices)
