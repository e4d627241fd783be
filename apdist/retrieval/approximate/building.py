"""Build a faiss index, and add to it: lists or links, and how far a search looks.

Shapes: n database images, d descriptor size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from apdist.retrieval.approximate.faiss_index import FaissIndex, array_of, centres_of
from apdist.retrieval.approximate.importing import first_line, import_faiss
from apdist.retrieval.approximate.lists import learned_centres, lists_of
from apdist.retrieval.ranking import nearest_rows

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
_ROWS_AT_ONCE = 1 << 16
# How far a search looks grows until it finds so many of the ten nearest others of a sample.
_RECALL_GOAL = 0.97
_RECALL_DEPTH = 10
_RECALL_SAMPLE = 500
_OTHER_SEED = 1
_LEAST_WIDTH, _MOST_WIDTH = 16, 1024


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
            index.quantizer.add(array_of(learned_centres(some, index.nlist)))
        index.train(array_of(some))
        for rows in descriptors.split(_ROWS_AT_ONCE):
            _add(faiss, index, rows)
        settings |= _look_far_enough(kind, index, descriptors)
    except Exception as error:  # of C++, as RuntimeError, MemoryError or AssertionError
        raise ValueError(
            f"faiss cannot build kind {kind!r} of {len(descriptors)} descriptors "
            f"({first_line(error)}); use kind 'exact'"
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
    rows = array_of(descriptors)
    if not isinstance(index, faiss.IndexIVF):
        index.add(rows)
        return
    lists = lists_of(torch.from_numpy(rows), centres_of(index)).numpy()
    index.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(lists))


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
