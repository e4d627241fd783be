"""The part of an index that faiss does: build, search, read and write; faiss is imported on demand.

Shapes: q queries, n database images, d descriptor size, k results.
"""

from __future__ import annotations

import functools
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.retrieval.huge_pages import into_huge_pages
from apdist.retrieval.lists import learned_centres, lists_of
from apdist.retrieval.ranking import nearest_rows, ranking_keys
from apdist.retrieval.ranks import exact_scores

logger = logging.getLogger(__name__)

# faiss prints a warning to stderr below this many training points per centroid.
_POINTS_PER_CENTROID = 39
# More images than that hardly move the centre of a list; a code's are few, and afford more.
_POINTS_PER_LIST = 16
_POINTS_PER_CODE = 64
_LEARNING_ROUNDS = 10
_HNSW_LINKS = 32
_HNSW_BUILD_WIDTH = 80
_MOST_SUBQUANTIZERS = 64
_LEAST_CODE_BITS = 4
# Quantised scores order candidates roughly: take more of them and score those exactly.
_PQ_CANDIDATES_PER_RESULT = 8
_MOST_RESULTS_ON_GPU = 2048
_IMAGES_PER_RESULT = 4
_TIMES_FURTHER = 8
_ROWS_AT_ONCE = 1 << 16
# How far a search looks grows until it finds so many of the ten nearest others of a sample.
_RECALL_GOAL = 0.97
_RECALL_DEPTH = 10
_RECALL_SAMPLE = 500
_OTHER_SEED = 1
_LEAST_WIDTH, _MOST_WIDTH = 16, 1024


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


def has_gpu() -> bool:
    """Whether ``faiss`` imports and has a GPU to search on."""
    # faiss-cpu has get_num_gpus, too; only faiss-gpu has the resources.
    return has_faiss() and _num_gpus(import_faiss()) > 0


def _num_gpus(faiss: Any) -> int:
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


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
            rows = self.cpu_index.search(_array(queries), num_candidates, params=chosen)[1]
            found = torch.from_numpy(rows)
        else:
            index = self.cpu_index
            if self.gpu_index is not None and num_candidates <= _MOST_RESULTS_ON_GPU:
                index = self.gpu_index
            found = torch.from_numpy(index.search(_array(queries), num_candidates)[1])
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
        queries = torch.from_numpy(_array(queries))
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
        return _centres_of(self.cpu_index)


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
    index, settings = _EMPTY_INDEX[kind](faiss, *descriptors.shape)
    try:
        some = descriptors[_sample(len(descriptors), _images_to_learn_from(settings))].float().cpu()
        if isinstance(index, faiss.IndexIVF):
            index.quantizer.add(_array(learned_centres(some, index.nlist)))
        index.train(_array(some))
        for rows in descriptors.split(_ROWS_AT_ONCE):
            _add(faiss, index, rows)
        settings |= _look_far_enough(kind, index, descriptors)
    except Exception as error:  # of C++, as RuntimeError, MemoryError or AssertionError
        raise ValueError(
            f"faiss cannot build kind {kind!r} of {len(descriptors)} descriptors "
            f"({_first_line(error)}); use kind 'exact'"
        ) from error
    return FaissIndex(index), {"faiss_version": faiss.__version__, **settings}


def add_to_faiss(
    kind: str, index: FaissIndex, descriptors: Tensor, *, after: int
) -> tuple[FaissIndex, dict[str, Any]]:
    """Add the rows of ``descriptors`` (n, d) from ``after`` on to an index of those before them.

    With ``after`` 0 they take the place of all that it held; what it has learned stays. How far a
    search looks is chosen anew.
    """
    if not after:
        index.cpu_index.reset()
    for start in range(after, len(descriptors), _ROWS_AT_ONCE):
        some = descriptors[start : start + _ROWS_AT_ONCE]
        _add(import_faiss(), index.cpu_index, some)
    chosen = _look_far_enough(kind, index.cpu_index, descriptors)
    return FaissIndex(index.cpu_index), chosen  # with a new copy on a GPU


def _add(faiss: Any, index: Any, descriptors: Tensor) -> None:
    """Add ``descriptors`` (n, d), each to the list of the nearest centre."""
    rows = _array(descriptors)
    if not isinstance(index, faiss.IndexIVF):
        index.add(rows)
        return
    lists = lists_of(torch.from_numpy(rows), _centres_of(index)).numpy()
    index.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(lists))


def _centres_of(index: Any) -> Tensor:
    """Centres (l, d) of the lists of ``index``."""
    return torch.from_numpy(index.quantizer.reconstruct_n(0, index.nlist))


def _array(descriptors: Tensor) -> NDArray[Any]:
    """Float32, side by side, in main memory."""
    return np.ascontiguousarray(descriptors.float().cpu().numpy())


def _sample(num_images: int, count: int, seed: int = 0) -> Tensor:
    """At most ``count`` rows, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_images, generator=generator)[:count]


def _images_to_learn_from(settings: dict[str, int]) -> int:
    """As many as the centres of all lists and codes need."""
    lists = settings.get("num_lists", 1) * _POINTS_PER_LIST
    return max(lists, _POINTS_PER_CODE << settings.get("code_bits", 0))


def _look_far_enough(kind: str, index: Any, descriptors: Tensor) -> dict[str, int]:
    """Let ``index`` look as far as finding nearly all neighbours takes; the setting chosen.

    How far that is depends on how the descriptors lie, which no rule of their number knows.
    """
    if kind == "flat" or len(descriptors) < 2:
        return {}
    depth = min(_RECALL_DEPTH, len(descriptors) - 1)
    # None of the images that lists began at: those are found in the first place looked at.
    queries = descriptors[_sample(len(descriptors), _RECALL_SAMPLE, seed=_OTHER_SEED)]
    nearest, _ = nearest_rows(queries, descriptors, depth + 1)
    wanted = FaissIndex(index, on_gpu=False)
    for effort in _efforts(kind, index):
        if kind == "hnsw":
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort
        scores, _ = wanted.search(queries, descriptors, depth + 1)
        # An image as near as the last counts as found; each finds itself.
        found = (scores >= nearest[:, -1:]).sum(dim=1) - 1
        if float(found.clamp(min=0).double().mean()) >= _RECALL_GOAL * depth:
            break
    return {"search_width" if kind == "hnsw" else "num_probes": effort}


def _efforts(kind: str, index: Any) -> list[int]:
    """How far a search may look, from the least to the most; each next by a half or a third."""
    least, most = (_LEAST_WIDTH, _MOST_WIDTH) if kind == "hnsw" else (1, index.nlist)
    steps = range(max(1, math.ceil(math.log2(most / least))))
    doubled = [least << step for step in steps]
    between = [3 * effort // 2 for effort in doubled if effort > 1]
    return sorted({*(effort for effort in doubled + between if effort < most), most})


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
    if not _num_gpus(faiss):
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
    return index, settings


def _hnsw(faiss: Any, _num_images: int, dim: int) -> tuple[Any, dict[str, int]]:
    index = faiss.IndexHNSWFlat(dim, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _HNSW_BUILD_WIDTH
    return index, {"num_links": _HNSW_LINKS}


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
    index.pq.cp.niter = _LEARNING_ROUNDS
    return index, settings


_EMPTY_INDEX = {"flat": _flat, "ivf": _ivf, "hnsw": _hnsw, "ivf_pq": _ivf_pq}


def _choose_lists(num_images: int) -> dict[str, int]:
    """About 16 sqrt(n) lists, each with enough images to learn its centre.

    Images of a class are few. In so small lists they lie side by side, and few need be looked at.
    """
    most = max(1, num_images // _POINTS_PER_CENTROID)
    return {"num_lists": min(most, max(1, round(16 * math.sqrt(num_images))))}


def _rescore(queries: Tensor, database: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best ``k`` of the candidates ``rows`` (q, c) by their exact scores; row -1 for none."""
    scores = exact_scores(queries, database, rows.clamp(min=0)).masked_fill(rows < 0, -torch.inf)
    best = ranking_keys(scores, rows).masked_fill(rows < 0, torch.iinfo(torch.int64).max)
    order = best.argsort(dim=1)[:, :k]
    return scores.gather(1, order), rows.gather(1, order)
