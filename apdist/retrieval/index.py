"""Build, save and load a search index.

`build_index` and `save_index` hold all in memory; `write_index` takes descriptors part by part.
`stored` says what a saved index consists of, and how one is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from apdist.data import storage
from apdist.given import Place, of_kind, place_of
from apdist.retrieval.approximate.building import build_faiss
from apdist.retrieval.approximate.faiss_index import FaissIndex, write_faiss
from apdist.retrieval.approximate.importing import has_gpu
from apdist.retrieval.search_index import SearchIndex, measure_recall, unit_descriptors
from apdist.retrieval.stored.folder import DESCRIPTORS, FAISS, Generation, claimed
from apdist.retrieval.stored.reading import mapped, read_index
from apdist.retrieval.stored.writing import Part, PartsWriter, check_entries, checked_parts

__all__ = ["SearchIndex", "build_index", "load_index", "save_index", "write_index"]

KINDS = ("auto", "exact", "flat", "ivf", "hnsw", "ivf_pq")
_ROWS_AT_ONCE = 1 << 16
MakeFaiss: TypeAlias = Callable[[Tensor], tuple[FaissIndex | None, dict[str, Any]]]
"""From descriptors (n, d) to what faiss searches, None where nothing, and the settings chosen."""


def build_index(
    descriptors: Tensor | NDArray[Any], entries: pa.Table, *, kind: str = "auto", model_id: str
) -> SearchIndex:
    """Index ``descriptors`` (n, d) and measure its recall against exact search.

    Args:
        descriptors: (n, d) of unit length.
        entries: n rows: what a search result should tell about each image.
        kind: "exact" needs no faiss; "flat" is exact, too; "ivf", "hnsw" and "ivf_pq" trade recall
            for speed; "auto" is "flat" where faiss has a GPU, else "exact", which is faster.
        model_id: names the model; only its descriptors can be searched for.

    Raises:
        ValueError: descriptors that are not of unit length, another number of entries, entries
            of another model, an unknown kind, or a kind whose faiss is not installed.
    """
    vectors = unit_descriptors(descriptors, "descriptors")
    check_entries(entries, len(vectors), model_id)
    if not len(vectors):
        raise ValueError("expected at least one descriptor, got none")
    return _measured(vectors, entries, *_making(kind), {"model_id": model_id})


def write_index(
    parts: Iterable[Part],
    folder: Place,
    *,
    kind: str = "auto",
    model_id: str,
    about: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build an index in ``folder`` of descriptors that come part by part; returns its settings.

    Args:
        parts: descriptors (b, d) of unit length and their entries (b).
        folder: local, or s3://BUCKET/PREFIX.
        kind: as in `build_index`.
        model_id: as there.
        about: further settings, to be kept.
        overwrite: take the place of an index that lies there; who reads that one goes on.

    Raises:
        ValueError: as in `build_index`; or two images have one key, or something lies there.
    """
    made = _making(kind)
    with claimed(folder, "overwrite" if overwrite else "new") as generation:
        return fill(generation, parts, kind=made[0], model_id=model_id, about=about)


def fill(
    generation: Generation,
    parts: Iterable[Part],
    *,
    kind: str,
    model_id: str,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`write_index` into a generation that is claimed."""
    kind, make_faiss = _making(kind)
    with PartsWriter(generation.path) as writer:
        for descriptors, entries in checked_parts(parts):
            writer.add(descriptors, entries, model_id=model_id)
        writer.finish()
    return complete(generation, kind, make_faiss, {"model_id": model_id, **(about or {})})


def complete(
    generation: Generation, kind: str, make_faiss: MakeFaiss, about: dict[str, Any]
) -> dict[str, Any]:
    """Add to descriptors and entries that are written what else belongs to an index; commit it."""
    vectors = mapped(generation.path / DESCRIPTORS)
    index = _measured(vectors, pa.table({}), kind, make_faiss, about)
    if index.faiss_index is not None:
        write_faiss(index.faiss_index, generation.path / FAISS)
    generation.commit(index.settings)
    return index.settings


def save_index(index: SearchIndex, folder: Place, *, overwrite: bool = False) -> None:
    """Write ``index`` to ``folder``, local or s3://, whole or not at all.

    Raises:
        ValueError: something lies there; an index may, with ``overwrite``: it is replaced.
    """
    of_kind("index", index, SearchIndex, "make one with build_index")
    with claimed(folder, "overwrite" if overwrite else "new") as generation:
        with PartsWriter(generation.path) as writer:
            for start in range(0, len(index), _ROWS_AT_ONCE):
                rows = index.descriptors[start : start + _ROWS_AT_ONCE]
                writer.add_as_is(rows, index.entries.slice(start, len(rows)))
            writer.finish()
        if index.faiss_index is not None:
            write_faiss(index.faiss_index, generation.path / FAISS)
        generation.commit(index.settings)


def load_index(folder: Place, *, model_id: str | None) -> SearchIndex:
    """Read the index that `save_index` or `write_index` wrote.

    On a disk descriptors are mapped into memory and read where they are searched. Where faiss is
    missing the index is searched exactly, with a warning.

    Args:
        folder: the saved index, local or s3://.
        model_id: the model that will describe the queries; None skips the comparison.

    Raises:
        ValueError: built with another model, or a file is missing, damaged or of another format.
    """
    index = read_index(storage.absolute(place_of("folder", folder)))
    if model_id is not None:
        index.refuse_model(model_id, folder)
    return index


def _making(kind: str) -> tuple[str, MakeFaiss]:
    """The kind that ``kind`` means here, and how faiss makes it."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if kind == "auto":
        kind = "flat" if has_gpu() else "exact"
    if kind == "exact":
        return kind, lambda _: (None, {})
    return kind, lambda vectors: _trained(kind, vectors)


def _trained(kind: str, vectors: Tensor) -> tuple[FaissIndex, dict[str, Any]]:
    found, chosen = build_faiss(kind, vectors)
    return found, {**chosen, "trained_on": len(vectors)}


def _measured(
    vectors: Tensor, entries: pa.Table, kind: str, make_faiss: MakeFaiss, about: dict[str, Any]
) -> SearchIndex:
    faiss_index, chosen = make_faiss(vectors)
    sizes = {"kind": kind, "dim": vectors.shape[1], "count": len(vectors)}
    index = SearchIndex(vectors, entries, {**sizes, **about, **chosen}, faiss_index)
    # Exact search is what it would be compared with, which takes long for ten million images.
    is_known = kind == "exact" and len(vectors) > 1
    index.settings["recall_at_10"] = 1.0 if is_known else measure_recall(index)
    return index
